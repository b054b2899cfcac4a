"""Tables: for people on a terminal, lines with tabs elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from darkroom_server.cli.tables import Columns, print_columns


def printed(*, width: int, is_terminal: bool) -> list[str]:
    table = Columns(("name", "state"))
    table.add("tiny", "failed: [no] extraordinarily many words")
    out = io.StringIO()
    print_columns(Console(file=out, width=width, force_terminal=is_terminal, no_color=True), table)
    text = out.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    return [line.rstrip() for line in text.splitlines()]


def test_a_program_reads_a_line_a_row_however_narrow_the_terminal_was() -> None:
    assert printed(width=10, is_terminal=False) == [
        "name\tstate",
        "tiny\tfailed: [no] extraordinarily many words",
    ]


def test_a_wide_terminal_shows_a_table() -> None:
    assert printed(width=80, is_terminal=True) == [
        "name  state",
        "tiny  failed: [no] extraordinarily many words",
    ]


def test_words_stay_whole_on_a_narrow_one() -> None:
    lines = printed(width=24, is_terminal=True)
    assert "extraordinarily" in " ".join(lines).split()
    narrow = printed(width=16, is_terminal=True)
    assert narrow[:2] == ["name   tiny", "state  failed: [no] extraordinarily many words"]
