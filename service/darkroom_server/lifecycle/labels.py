"""Labels of versions: where they point, and which requests they are given. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from darkroom_server.domain.errors import InvalidParameter

MAX_LABEL_LENGTH = 64

_KEY_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedLabels:
    """What requests have changed of a model's labels: it counts before the configuration.

    None: the label was taken away.
    """

    versions: Mapping[str, int | None] = field(default_factory=dict)
    traffic_percent: Mapping[str, float] = field(default_factory=dict)

    def moved(self, label: str, version: int, traffic_percent: float | None) -> MovedLabels:
        """With a label at a version; without a share it keeps the one it had."""
        share = {} if traffic_percent is None else {label: traffic_percent}
        return replace(
            self,
            versions={**self.versions, label: version},
            traffic_percent={**self.traffic_percent, **share},
        )

    def deleted(self, label: str) -> MovedLabels:
        """Without a label, and without its share."""
        return replace(
            self,
            versions={**self.versions, label: None},
            traffic_percent={**self.traffic_percent, label: 0.0},
        )

    def over(self, configured: Mapping[str, int]) -> dict[str, int]:
        """Where labels are to point."""
        wanted = {**configured, **self.versions}
        return {label: number for label, number in wanted.items() if number is not None}

    def shares_over(self, configured: Mapping[str, float]) -> dict[str, float]:
        """Which share of the requests labels are to be given, in percent; none of 0."""
        wanted = {**configured, **self.traffic_percent}
        return {label: percent for label, percent in wanted.items() if percent > 0}


def label_fault(label: str) -> str:
    """Why a text is no label; empty when it is one."""
    if not label or not label.isprintable() or label != label.strip() or label.isdecimal():
        return "must be a word, and not a number"
    return f"is longer than {MAX_LABEL_LENGTH} characters" * (len(label) > MAX_LABEL_LENGTH)


def in_force(
    wanted: Mapping[str, int],
    before: Mapping[str, int],
    *,
    ready: Collection[int],
    loaded: Collection[int],
) -> dict[str, int]:
    """Where labels point: they move once the version that they are to point at is READY."""
    found = {}
    for label, number in wanted.items():
        known = before.get(label)
        if number in ready:
            found[label] = number
        elif known is not None and known in ready:
            found[label] = known
        elif number in loaded:
            found[label] = number
    return found


def label_for(key: str, model: str, traffic_percent: Mapping[str, float]) -> str | None:
    """The label that a request naming no version is given; None: the default version.

    The same key, which is the request's id, gets the same answer, so that trying again does not
    change the version. Shares are drawn for each model by itself.
    """
    digest = hashlib.sha256(f"{model}\0{key}".encode()).digest()
    drawn_percent = int.from_bytes(digest[:_KEY_BYTES]) / 2 ** (8 * _KEY_BYTES) * 100
    for label, percent in sorted(traffic_percent.items()):
        if drawn_percent < percent:
            return label
        drawn_percent -= percent
    return None


def check_shares(traffic_percent: Mapping[str, float]) -> None:
    """Raises InvalidParameter when labels are given more than all requests together."""
    whole = sum(traffic_percent.values())
    if whole > 100:
        shares = ", ".join(f"{label} {percent:g}" for label, percent in traffic_percent.items())
        raise InvalidParameter("traffic_percent", f"shares are {whole:g} % together: {shares}")
