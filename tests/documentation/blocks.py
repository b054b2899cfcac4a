"""The fenced blocks of a page, in order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>\w*)(?: +title=\"(?P<title>[^\"]+)\")?\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `line` is that of its first line of text, counted from 1."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a Markdown file; raises ValueError for a fence that it cannot read."""
    blocks: list[Block] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if opened is None:
            if line.lstrip().startswith("```"):
                opened = _FENCE.match(line)
                if opened is None:
                    raise ValueError(f"{page.name}:{number}: cannot read the fence {line!r}")
                lines = []
        elif line.rstrip() == opened["fence"]:
            text = "".join(f"{each}\n" for each in lines)
            first = number - len(lines)
            blocks.append(Block(page.name, first, opened["language"], opened["title"] or "", text))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"{page.name}: the last fence is not closed")
    return blocks
