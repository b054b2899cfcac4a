"""How `darkroom models watch` shows what becomes of models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from darkroom_client import Model
from darkroom_server.cli.displays import Display, NoDisplay
from darkroom_server.cli.model_table import version_table
from darkroom_server.cli.tables import print_row


class Watch(Display, Protocol):
    """Something that follows all models; a context manager around it."""

    def show(self, found: Iterable[Model], notice: str) -> None:
        """Takes in how models are, and the error that kept the server from answering, if any."""


class Screen(Live):
    """One table, redrawn at every change."""

    def show(self, found: Iterable[Model], notice: str) -> None:
        """Draws it again."""
        self.update(Group(version_table(found), Text(notice, style="red")), refresh=True)


class Lines(NoDisplay):
    """A line for each version, and again whenever it has changed: for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed: set[str] = set()
        self._notice = ""
        self._has_heading = False

    def show(self, found: Iterable[Model], notice: str) -> None:
        """Prints what is new."""
        heading, *lines = version_table(found).lines()
        if lines and not self._has_heading:
            print_row(self._console, heading)
            self._has_heading = True
        for line in lines:
            if line not in self._printed:
                print_row(self._console, line)
        self._printed = set(lines)
        if notice != self._notice and notice:
            print_row(self._console, notice)
        self._notice = notice


def watch_for(console: Console) -> Watch:
    """A table on a terminal, lines elsewhere."""
    return Screen(console=console) if console.is_terminal else Lines(console)
