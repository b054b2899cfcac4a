"""How fast every shape goes, by what is known now."""

from __future__ import annotations

from collections.abc import Callable

from darkroom_server.scheduling.batch import pace
from darkroom_server.scheduling.entry import Shape
from darkroom_server.scheduling.pace import Pace
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_costs import StepCosts


class Paces:
    """Recomputed when the costs, or what steps share, have changed; `changed` is called then."""

    def __init__(
        self, costs: StepCosts, shared: SharedRows, *, changed: Callable[[], None]
    ) -> None:
        self._costs = costs
        self._shared = shared
        self._changed = changed
        self._found: dict[Shape, Pace] = {}
        self._version = (-1, -1)

    def of(self, shape: Shape) -> Pace:
        """How fast images of the shape go."""
        version = (self._costs.version, self._shared.version)
        if self._version != version:
            self._found.clear()
            self._changed()
            self._version = version
        if shape not in self._found:
            self._found[shape] = pace(shape, self._costs, self._shared)
        return self._found[shape]
