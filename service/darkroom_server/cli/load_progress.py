"""How `darkroom models load` shows a load, on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from darkroom_client import LoadReport
from darkroom_server.cli.model_table import stage_text


class LoadView(Protocol):
    """Something that follows one load; a context manager around it."""

    def __enter__(self) -> Self:
        """Starts showing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends showing."""

    def show(self, report: LoadReport) -> None:
        """Takes in the next report."""


class Lines:
    """A line for each new stage, for logs; with no console, nothing."""

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._last = ""

    def __enter__(self) -> Self:
        """Does nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Does nothing."""

    def show(self, report: LoadReport) -> None:
        """Prints what the load does if that has changed."""
        text = stage_text(report.progress)
        if self._console is not None and text != self._last:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._last = text


class Bar:
    """A progress bar over the bytes of the weights, gone when the load is over."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bars.add_task("asking", total=None)

    def __enter__(self) -> Self:
        """Starts drawing."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the bar away."""
        self._bars.stop()

    def show(self, report: LoadReport) -> None:
        """Moves the bar."""
        progress = report.progress
        self._bars.update(
            self._task,
            description=stage_text(progress),
            completed=progress.loaded_bytes,
            total=progress.total_bytes or None,
        )


def load_view_for(console: Console, *, quiet: bool) -> LoadView:
    """A bar on a terminal, lines elsewhere, nothing if that is wished."""
    if quiet:
        return Lines(None)
    return Bar(console) if console.is_terminal else Lines(console)
