"""The repository's own Python files, parsed, for tests that look at the code itself."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SERVICE = REPOSITORY / "service" / "darkroom_server"

#: Folders with hand-written Python.
_ROOTS = ("service", "clients", "training", "tests", "bench", "examples")


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file: `path` is relative to the repository."""

    path: Path
    text: str

    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))


def sources(root: Path = REPOSITORY) -> list[Source]:
    """Every hand-written Python file below `root`, by path."""
    folders = [REPOSITORY / name for name in _ROOTS] if root == REPOSITORY else [root]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return [
        Source(file.relative_to(REPOSITORY), file.read_text(encoding="utf-8"))
        for file in files
        if "build" not in file.relative_to(REPOSITORY).parts
    ]
