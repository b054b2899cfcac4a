"""Every code block of these pages is run as a reader would, and prints what the page shows."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.documentation.blocks import Block, blocks_of
from tests.documentation.reader import REPOSITORY, can_run, reading

PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/from-triton.md",
    "docs/from-hugging-face.md",
    "docs/from-openai.md",
)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_says_works(page: str, tmp_path: Path) -> None:
    blocks = blocks_of(REPOSITORY / page)
    assert blocks
    left_out: list[Block] = []
    with reading(tmp_path) as reader:
        for before, block in pairwise([None, *blocks]):
            is_left_out = block.language == "text" and before in left_out
            if is_left_out or not can_run(block):
                left_out.append(block)
            else:
                reader.follow(block)
    if left_out:
        lines = ", ".join(map(str, left_out))
        pytest.skip(f"all but {lines} was run: `make compat-clients` installs what these need")
