"""The committed Python code is what the protos say, and it works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COMMITTED = REPOSITORY / "protos" / "gen" / "python" / "darkroom"


def _files(root: Path) -> dict[str, bytes]:
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_regeneration_leaves_no_change(tmp_path: Path) -> None:
    subprocess.run(
        [REPOSITORY / "protos" / "generate.sh", tmp_path],
        env={**os.environ, "PYTHON": sys.executable},
        check=True,
    )
    committed = _files(COMMITTED)
    generated = _files(tmp_path / "darkroom")
    assert committed.keys() == generated.keys()
    assert [name for name in committed if committed[name] != generated[name]] == []


def test_the_reference_is_what_the_protos_say(tmp_path: Path) -> None:
    subprocess.run(
        [REPOSITORY / "protos" / "generate.sh", tmp_path, "markdown"],
        env={**os.environ, "PYTHON": sys.executable},
        check=True,
    )
    for page in ("protocol.md", "model-config.md"):
        assert (REPOSITORY / "docs" / page).read_text() == (tmp_path / page).read_text()


def test_every_message_module_has_typed_stubs() -> None:
    modules = {file.stem for file in COMMITTED.rglob("*_pb2*.py")}
    stubs = {file.stem for file in COMMITTED.rglob("*_pb2*.pyi")}
    assert modules
    assert modules == stubs


def test_the_generated_code_works_without_a_warning() -> None:
    program = Path(__file__).with_name("use_generated_code.py")
    subprocess.run([sys.executable, "-W", "error", program], check=True)
