"""Figures of systems side by side, and the goals that are ratios of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.measured import Estimate, Measured

OURS = "darkroom"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of every system: values by round or seed, in the same order for all.

    A system without values was not measured, or keeps no load of those tried.
    """

    measure: str
    unit: str
    #: Whether more is better; None where it is neither.
    more_is_better: bool | None
    values: dict[str, list[float]]
    details: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> list[Measured]:
        """One for each system."""
        return [
            Measured(
                goal="G12",
                tier="peers",
                metric=f"{self.measure}: {system}",
                target=None,
                at_least=bool(self.more_is_better),
                estimate=Estimate.of(values) if values else None,
                details={
                    "measure": self.measure,
                    "system": system,
                    "unit": self.unit,
                    "more_is_better": self.more_is_better,
                    **self.details,
                },
            )
            for system, values in self.values.items()
        ]

    def against_best(self, target: float, *, at_least: bool) -> Measured:
        """Ours over the best peer's, of equal rounds; none where either has no figure."""
        peers = {name: found for name, found in self.values.items() if name != OURS and found}
        ours, ratios, best = self.values.get(OURS, []), [], None
        if peers and ours:
            median = {name: Estimate.of(found).median for name, found in peers.items()}
            best = (max if at_least else min)(median, key=lambda name: median[name])
            pairs = zip(ours, peers[best], strict=False)
            ratios = [mine / theirs for mine, theirs in pairs if theirs]
        return Measured(
            goal="G12",
            tier="peers",
            metric=f"{self.measure}, ours / best peer",
            target=target,
            at_least=at_least,
            estimate=Estimate.of(ratios) if ratios else None,
            details={"best_peer": best},
        )

    def of_ours(self, target: float, *, at_least: bool) -> Measured:
        """Our own figure beside a target."""
        values = self.values.get(OURS, [])
        return Measured(
            goal="G12",
            tier="peers",
            metric=f"{self.measure}, ours",
            target=target,
            at_least=at_least,
            estimate=Estimate.of(values) if values else None,
        )


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """Who goes first changes from round to round."""
    at = number % len(names)
    return [*names[at:], *names[:at]]
