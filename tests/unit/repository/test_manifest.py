from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.repository.manifest import check_manifest
from tests.unit.repository.builders import Repository

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"{A}  a.txt\n{B}  d/b.txt\n", [], id="matches"),
        pytest.param(f"{A.upper()} *./a.txt\n\n{B} *d/b.txt", [], id="binary-mark-and-dot"),
        pytest.param(
            f"{A}  a.txt\n{B}  d/b.txt\n{B}  .hidden\n{A}  MANIFEST.sha256",
            [],
            id="hidden-and-itself",
        ),
        pytest.param(
            f"{B}  a.txt\n{B}  d/b.txt",
            ["error: 'a.txt' has another SHA-256: copy it again"],
            id="other",
        ),
        pytest.param(
            f"{A}  a.txt\n{B}  d/b.txt\n{A}  c.txt",
            ["error: names 'c.txt', which is not there: copy it again"],
            id="missing",
        ),
        pytest.param(
            f"{A}  a.txt", ["warning: does not name 'd/b.txt', which is there"], id="unnamed-file"
        ),
        pytest.param(
            f"{A}  a.txt\nnonsense", ["error: line 2 is not '<sha256>  <name>'"], id="format"
        ),
        pytest.param(
            "\n",
            [
                "error: names no file",
                "warning: does not name 'a.txt', which is there",
                "warning: does not name 'd/b.txt', which is there",
            ],
            id="empty",
        ),
    ],
)
def test_a_manifest_is_compared_with_what_is_there(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    problems = ProblemLog("m")
    known = {"a.txt": A, "d/b.txt": B}
    check_manifest(text, known, folder=tmp_path, shown="M", problems=problems)
    assert [str(problem) for problem in problems.problems] == [f"M: {line}" for line in expected]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("/etc/hostname", id="absolute"),
        pytest.param("../2/model_index.json", id="parent"),
        pytest.param("unet/../../2/model_index.json", id="parent-inside"),
        pytest.param("./../config.pbtxt", id="parent-after-dot"),
        pytest.param(".hidden/../../../x", id="parent-below-hidden"),
        pytest.param("onnx/../../x", id="parent-below-an-export"),
        pytest.param("..", id="parent-alone"),
        pytest.param("link.json", id="link-to-another-version"),
        pytest.param("linked/model_index.json", id="below-a-link"),
    ],
)
def test_a_line_that_leaves_the_versions_folder_is_refused(tmp_path: Path, name: str) -> None:
    repository = Repository(tmp_path)
    repository.fake("m", 1, 2)
    repository.fake("bystander")
    repository.write("m/2/model_index.json", "{}")
    repository.write("m/1/a.txt", "x")
    (tmp_path / "m/1/link.json").symlink_to("../2/model_index.json")
    (tmp_path / "m/1/linked").symlink_to("../2")
    repository.write("m/1/MANIFEST.sha256", f"{A}  {name}\n")
    assert any(
        "m/1/MANIFEST.sha256: error: line 1 names" in text
        and "which is not in the version's folder" in text
        for text in repository.errors()
    )
    assert [one.version for one in repository.model().versions] == [2]
    assert repository.model("bystander").versions


def test_a_manifest_of_more_lines_than_a_version_may_have_files_is_not_read_on(
    tmp_path: Path,
) -> None:
    problems = ProblemLog("m")
    text = "\n".join(f"{A}  {number}" for number in range(300_000))
    check_manifest(text, {}, folder=tmp_path, shown="M", problems=problems)
    assert problems.error_count == 20_001
    assert str(problems.problems[-1]) == "M: error: has more than 200 errors: the rest is left out"
