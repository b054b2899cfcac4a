"""Which requests log the time of each of their stages; can be changed while the server runs.

Bound to one event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: A count of traces that has no end.
ENDLESS = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """Whether requests are traced: one in `rate`, and `count` of them before it ends."""

    is_on: bool = False
    rate: int = 1000
    count: int = ENDLESS


class RequestTraces:
    """The settings of the server, and those of models that have their own."""

    def __init__(self) -> None:
        #: What was said of a model; of the server, by the empty name.
        self._said: dict[str, dict[str, bool | int]] = {}
        self._seen: dict[str, int] = {}
        self._traced: dict[str, int] = {}

    def settings(self, model: str = "") -> TraceSettings:
        """Those in force for a model, or the server's."""
        said = self._said.get("", {}) | self._said.get(model, {})
        usual = TraceSettings()
        return TraceSettings(
            is_on=bool(said.get("is_on", usual.is_on)),
            rate=said.get("rate", usual.rate),
            count=said.get("count", usual.count),
        )

    def change(self, model: str, changes: Mapping[str, bool | int | None]) -> None:
        """Sets fields of the settings, of a model or of the server; None: back to the
        default. Counting restarts.
        """
        said = {**self._said.get(model, {}), **changes}
        self._said[model] = {name: value for name, value in said.items() if value is not None}
        for counts in (self._seen, self._traced):
            counts.pop(model, None)

    def wants(self, model: str) -> bool:
        """Whether a request that has ended now is traced; counts it."""
        settings = self.settings(model)
        if not settings.is_on:
            return False
        # What holds for all models is counted over all.
        at = model if self._said.get(model) else ""
        seen, traced = self._seen.get(at, 0), self._traced.get(at, 0)
        self._seen[at] = seen + 1
        if seen % settings.rate or settings.count == traced:
            return False
        self._traced[at] = traced + 1
        return True
