"""How long the fake backend takes: to load, for a step, for an image."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FakePace:
    """Times that a config gives the fake backend.

    `step_s_by_rows`: of a step by rows; straight lines between, in proportion beyond. Empty: every
    step takes `step_s`. `image_s`: what an image takes besides. `pixel_count`: of images that take
    these times; others take them in proportion. 0: all take the same.
    """

    step_s: float = 0.0
    load_s: float = 0.0
    step_s_by_rows: tuple[tuple[int, float], ...] = ()
    image_s: float = 0.0
    pixel_count: int = 0

    def scale(self, pixel_count: int) -> float:
        """How many times as long an image of `pixel_count` takes."""
        return pixel_count / self.pixel_count if self.pixel_count else 1.0
