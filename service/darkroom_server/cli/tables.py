"""Tables on stdout: for people on a terminal, and as lines with tabs where a program reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2


@dataclass(slots=True)
class Columns:
    """Rows under headings. Words stay whole: a table that is too wide is printed row by row.

    A server's or a file's own words are Text, and so are never read as markup.
    """

    headings: Sequence[str]
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add(self, *cells: str | Text) -> None:
        """One more row."""
        self.rows.append(tuple(Text(cell) if isinstance(cell, str) else cell for cell in cells))

    def lines(self) -> list[str]:
        """A line for the headings and for each row, cells parted by tabs."""
        cells = [list(self.headings), *([cell.plain for cell in row] for row in self.rows)]
        return ["\t".join(" ".join(cell.split()) for cell in row) for row in cells]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As a table if every word has room, else as a paragraph for each row."""
        widths = [self._word_width(i) for i in range(len(self.headings))]
        if sum(widths) + _GAP * (len(widths) - 1) <= options.max_width:
            table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
            for heading, width in zip(self.headings, widths, strict=True):
                table.add_column(heading, min_width=width, overflow="fold")
            for row in self.rows:
                table.add_row(*row)
            yield table
            return
        name_width = max(map(len, self.headings))
        for row in self.rows:
            for heading, cell in zip(self.headings, row, strict=True):
                if cell.plain:
                    head = Text(f"{heading:{name_width}}  ", style="bold")
                    yield Text.assemble(head, cell, overflow="ignore", no_wrap=True)
            yield Text()

    def _word_width(self, column: int) -> int:
        texts = [self.headings[column], *(row[column].plain for row in self.rows)]
        return max((len(word) for text in texts for word in text.split()), default=0)


def print_columns(console: Console, columns: Columns) -> None:
    """A table on a terminal, lines elsewhere."""
    if console.is_terminal:
        console.print(columns, crop=False)
        return
    for line in columns.lines():
        print_row(console, line)


def print_row(console: Console, line: str) -> None:
    """A line of `Columns.lines` as it is: rich would make spaces of its tabs."""
    print(line, file=console.file, flush=True)


def print_line(console: Console, text: str | Text) -> None:
    """One line, however long, and no markup."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
