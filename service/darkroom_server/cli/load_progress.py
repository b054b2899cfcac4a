"""How `darkroom models load` shows a load, on stderr."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom_client import LoadReport
from darkroom_server.cli.displays import BarDisplay, Display, NoDisplay
from darkroom_server.cli.model_table import stage_text


class LoadView(Display, Protocol):
    """Something that follows one load; a context manager around it."""

    def show(self, report: LoadReport) -> None:
        """Takes in the next report."""


class Lines(NoDisplay):
    """A line for each new stage, for logs; with no console, nothing."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._last = ""

    def show(self, report: LoadReport) -> None:
        """Prints what the load does if that has changed."""
        text = stage_text(report.progress)
        if self._console is not None and text != self._last:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._last = text


class Bar(BarDisplay):
    """A progress bar over the bytes of the weights, gone when the load is over."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeElapsedColumn(),
        )
        super().__init__(Progress(*columns, console=console, transient=True), "asking")

    def show(self, report: LoadReport) -> None:
        """Moves the bar."""
        progress = report.progress
        self.bars.update(
            self.task,
            description=stage_text(progress),
            completed=progress.loaded_bytes,
            total=progress.total_bytes or None,
        )


def load_view_for(console: Console, *, quiet: bool) -> LoadView:
    """A bar on a terminal, lines elsewhere, nothing if that is wished."""
    if quiet:
        return Lines(None)
    return Bar(console) if console.is_terminal else Lines(console)
