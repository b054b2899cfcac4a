"""What views of long work have in common: context managers that show something, or nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.progress import Progress


class Display(Protocol):
    """Something that is shown while its block runs."""

    def __enter__(self) -> Self:
        """Starts showing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clears what was shown."""


class NoDisplay:
    """Nothing is drawn that would have to be cleared."""

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


class BarDisplay:
    """Bars that are gone when the block is over; `task` is the first one, of no known length."""

    def __init__(self, bars: Progress, description: str) -> None:
        self.bars = bars
        self.task = bars.add_task(description, total=None)

    def __enter__(self) -> Self:
        """Starts drawing."""
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the bars away."""
        self.bars.stop()
