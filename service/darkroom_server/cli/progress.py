"""How a command shows what a request is doing, on stderr."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from darkroom_client import Accepted, Completed, Event, ImageReady, Preview, Progress, Queued, Stage
from darkroom_server.cli.displays import BarDisplay, Display, NoDisplay
from darkroom_server.cli.exits import option_of

_STAGES = {
    Stage.UNKNOWN: "working",
    Stage.ENCODE: "reading the prompt",
    Stage.DENOISE: "denoising",
}


class ProgressView(Display, Protocol):
    """Something that follows one request; a context manager around it."""

    def show(self, event: Event) -> None:
        """Takes in the next event."""


class Silent(NoDisplay):
    """Shows nothing."""

    def show(self, event: Event) -> None:
        """Does nothing."""


class Plain(Silent):
    """A line for each new stage, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def show(self, event: Event) -> None:
        """Prints what the request does if that has changed."""
        print_warnings(self._console, event)
        text = describe(event)
        if text and text != self._last:
            _print_line(self._console, text)
            self._last = text


class Bar(BarDisplay):
    """A progress bar that is gone when the request is over."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        super().__init__(Bars(*columns, console=console, transient=True), "sending")

    def show(self, event: Event) -> None:
        """Moves the bar; warnings stay above it."""
        print_warnings(self.bars.console, event)
        text = describe(event)
        if text:
            self.bars.update(self.task, description=text)
        if isinstance(event, Progress) and event.total_step_count:
            self.bars.update(
                self.task, completed=event.completed_step_count, total=event.total_step_count
            )


def view_for(console: Console, *, quiet: bool) -> ProgressView:
    """A bar on a terminal, lines elsewhere, nothing if that is wished."""
    if quiet:
        return Silent()
    return Bar(console) if console.is_terminal else Plain(console)


def print_warnings(console: Console, event: Event) -> None:
    """Prints what the service changed or ignored, a line each."""
    if not isinstance(event, Accepted | Completed):
        return
    # Width and height are one option, and may have one fault.
    lines = dict.fromkeys(
        f"{option_of(warning.field)}: {warning.description}"
        if warning.field
        else warning.description
        for warning in event.warnings
    )
    for line in lines:
        _print_line(console, f"warning: {line}")


def describe(event: Event) -> str:
    """What the request is doing, in a few words; empty if the event says nothing of it."""
    match event:
        case Queued(ahead_count, model_loading, estimated_s, within_s):
            if model_loading:
                return "loading the model"
            ahead = f", {ahead_count} ahead" if ahead_count else ""
            ready = "" if estimated_s is None else f", ready in about {estimated_s:.1f} s"
            if within_s is not None:
                ready += f", likely within {within_s:.1f} s"
            return f"queued{ahead}{ready}"
        case Progress():
            return _STAGES[event.stage]
        case Accepted() | Preview() | ImageReady() | Completed():
            return ""


def _print_line(console: Console, text: str) -> None:
    # A server's words: never markup, and never wrapped.
    console.print(text, markup=False, highlight=False, soft_wrap=True)
