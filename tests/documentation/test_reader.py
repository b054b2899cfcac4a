"""A page that does not hold is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documentation.blocks import Block, blocks_of
from tests.documentation.reader import reading


def block(language: str, text: str, title: str = "") -> Block:
    return Block("page.md", 1, language, title, text)


def test_blocks_are_found_with_their_lines_and_titles(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# A\n\n```sh\nls\n```\n\n````protobuf title="a/b"\n```\n````\n')
    assert blocks_of(page) == [
        Block("page.md", 4, "sh", "", "ls\n"),
        Block("page.md", 8, "protobuf", "a/b", "```\n"),
    ]


@pytest.mark.parametrize("text", ["```sh\nls\n", "```sh {.x}\nls\n```\n", "  ```sh\nls\n  ```\n"])
def test_a_fence_that_cannot_be_read_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match=r"page\.md"):
        blocks_of(tmp_path / "page.md")


def test_files_and_commands_work_together(tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        reader.follow(block("json", "[1, 2]\n", "data/numbers.json"))
        reader.follow(block("sh", "cp data/numbers.json copy.json\n"))
        reader.follow(
            block("python", "import json\nprint(json.load(open('copy.json'))[1], 'is', 7)\n")
        )
        reader.follow(block("text", "2 is …\n"))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(block("sh", "false | true\n"), id="command"),
        pytest.param(block("python", "1 / 0\n"), id="python"),
        pytest.param(block("text", "another … output\n"), id="output"),
        pytest.param(block("", "ls\n"), id="no-language"),
        pytest.param(block("ruby", "puts 1\n"), id="language"),
    ],
)
def test_what_does_not_hold_is_told(wrong: Block, tmp_path: Path) -> None:
    with reading(tmp_path) as reader:
        reader.follow(block("sh", "echo an output\n"))
        with pytest.raises(AssertionError, match=r"page\.md:1"):
            reader.follow(wrong)
