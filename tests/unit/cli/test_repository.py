from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from darkroom_server.cli.main import app
from tests.unit.repository.builders import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "models")


def check(root: Path) -> Result:
    return CliRunner().invoke(app, ["check-repo", str(root)])


def test_a_repository_in_order_passes(repository: Repository) -> None:
    # What weights are compared with needs torch: tests/parity/test_part_weights.py.
    repository.fake("tiny-sdxl", 1, 2)
    result = check(repository.root)
    assert result.exit_code == 0
    (row,) = (line for line in result.output.splitlines() if line.startswith("tiny-sdxl"))
    assert "2*, (1)" in row
    assert row.rstrip().endswith("ok")
    assert "1 model can be served: no problems" in result.output


def test_warnings_alone_pass(repository: Repository) -> None:
    repository.fake("m")
    (repository.root / "m/2-tmp").mkdir()
    result = check(repository.root)
    assert result.exit_code == 0
    assert f"{repository.root}/m/2-tmp: warning: is ignored" in result.output
    assert "1 warning" in result.output


def test_an_error_fails_and_shows_file_line_column_and_caret(repository: Repository) -> None:
    repository.fake("good")
    repository.config("bad", '# a config\n  nmae: "x"')
    result = check(repository.root)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    at = (
        f"{repository.root}/bad/config.pbtxt:2:3: error: unknown field 'nmae'; did you mean 'name'?"
    )
    (i,) = (i for i, line in enumerate(lines) if line.startswith(at))
    assert lines[i + 1 : i + 3] == ['      nmae: "x"', "      ^"]
    assert "1 model can be served: 1 error" in result.output


def test_every_problem_of_every_model_is_printed(repository: Repository) -> None:
    repository.config("a", "x: 1\ny: 2")
    repository.pipeline("b", without="unet/")
    result = check(repository.root)
    assert result.output.count(": error: ") == 3


def test_what_a_file_says_is_never_read_as_markup(repository: Repository) -> None:
    repository.config("m", 'dtype: "[red]x[/nonsense]"')
    result = check(repository.root)
    assert "[red]x[/nonsense]" in result.output


def test_a_missing_repository_fails(tmp_path: Path) -> None:
    result = check(tmp_path / "nowhere")
    assert result.exit_code == 1
    assert "the model repository cannot be read: No such file or directory" in result.output


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, darkroom_server.cli.repository; "
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_url_is_told_apart_from_a_folder_that_is_not_there() -> None:
    result = CliRunner().invoke(app, ["check-repo", "s3://bucket/models"])
    assert result.exit_code == 2
    assert "is a URL" in result.output
