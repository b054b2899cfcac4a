from __future__ import annotations

import pytest

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.repository.remote_models import RemoteModel, group
from darkroom_server.repository.remote_store import RemoteFile


def file(name: str, *, changed_at_s: float | None = 0.0, content: str = "") -> RemoteFile:
    return RemoteFile(name, len(content), content, changed_at_s)


def grouped(*names: str) -> tuple[dict[str, RemoteModel], list[str]]:
    problems = ProblemLog("")
    models = group([file(name) for name in names], problems)
    return models, [problem.message for problem in problems.problems]


def test_files_are_sorted_into_models_and_versions() -> None:
    models, problems = grouped(
        "a/config.pbtxt", "a/1/unet/x", "a/1/y", "a/12/y", "b/3/y", "README.md", "b/notes.txt"
    )
    assert problems == []
    assert models.keys() == {"a", "b"}
    assert models["a"].config is not None
    assert models["b"].config is None
    assert models["a"].versions.keys() == {1, 12}
    assert models["a"].versions[1].files.keys() == {"unet/x", "y"}


@pytest.mark.parametrize(
    "name", ["a/03/x", "a/0/x", "a/2-tmp/x", "a/1", "a/1/", "a/.1/x", ".a/1/x"]
)
def test_what_is_no_version_is_left_out_silently_as_in_a_folder(name: str) -> None:
    models, problems = grouped("a/5/x", name)
    assert problems == []
    assert models["a"].versions.keys() == {5}
    assert models.keys() == {"a"}


@pytest.mark.parametrize("name", ["../x/1/y", "a/../1/x", "a/1/..", "a/1/./x", "a//1/x", "a/1/\n"])
def test_names_that_could_lead_elsewhere_are_left_out_and_told(name: str) -> None:
    models, problems = grouped("a/5/x", name)
    assert len(problems) == 1
    assert "is no name for a file" in problems[0]
    assert models["a"].versions.keys() == {5}


def test_versions_with_pickles_or_code_are_refused_by_name() -> None:
    models, _ = grouped("a/1/x.safetensors", "a/2/x.bin", "a/3/run.py")
    assert models["a"].versions.keys() == {1}
    assert models["a"].refused == {2, 3}
    assert models["a"].problems.error_count == 2


def test_a_versions_key_follows_from_names_and_contents_alone() -> None:
    def key(*files: RemoteFile) -> str:
        return group(files, ProblemLog(""))["a"].versions[1].key

    first = key(file("a/1/x", content="one"), file("a/1/y", content="two"))
    assert (
        key(file("a/1/y", content="two", changed_at_s=9.0), file("a/1/x", content="one")) == first
    )
    assert key(file("a/1/x", content="two"), file("a/1/y", content="one")) != first
    assert key(file("a/1/x", content="one")) != first


@pytest.mark.parametrize(
    ("times", "expected"),
    [((1.0, 5.0, 2.0), 5.0), ((1.0, None), None)],
    ids=["the-last", "one-unknown"],
)
def test_when_a_version_changed(times: tuple[float | None, ...], expected: float | None) -> None:
    files = [file(f"a/1/{k}", changed_at_s=time) for k, time in enumerate(times)]
    assert group(files, ProblemLog(""))["a"].versions[1].changed_at_s == expected
