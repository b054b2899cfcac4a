"""Every row of the two pages that Darkroom is compatible with is named by a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
#: How many rows each page's sentences make.
ROW_COUNTS = {1: 17, 2: 11}
_NAME = re.compile(r"def test_page_(\d)_rows?_(\d+)(?:_(and|to)_(\d+))?_")


def rows() -> set[tuple[int, int]]:
    found = set()
    for file in TESTS.rglob("test_*.py"):
        for page, first, joint, last in _NAME.findall(file.read_text()):
            ends = (int(first), int(last or first))
            numbers = range(ends[0], ends[1] + 1) if joint == "to" else ends
            found |= {(int(page), number) for number in numbers}
    return found


@pytest.mark.parametrize("page", ROW_COUNTS)
def test_every_row_has_a_test(page: int) -> None:
    wanted = {(page, row) for row in range(1, ROW_COUNTS[page] + 1)}
    assert wanted - rows() == set()
