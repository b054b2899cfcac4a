"""Which replicas a size belongs to: as many as its share of the work is of all of it.

Steps are shared by images of one size, so replicas that have few sizes make more. Pure: the front
tier and the bench keep one of these each.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

#: Shares are of about this many of the last requests.
REMEMBERED_COUNT = 600
#: Sizes that have replicas of their own; those with the least work beyond these have none.
MOST_GROUPS = 64
#: A size does not belong to a replica of which it would have less than this: it would be the second
#: one there for little.
LEAST_SHARE = 0.33
#: Beyond this the numbers are made small again, long before they lose digits.
MOST_SCALE = 1e6
#: Of the requests, those that may be guests: taken by a busy replica of other sizes after all of
#: their own have refused them. Under overload each costs more than it gives, because what is there
#: shares its steps with fewer; without overload few need this.
GUEST_SHARE = 0.01
#: Guests that may come at once, if there were none for long.
MOST_GUESTS = 4.0


@dataclass(slots=True)
class Homes:
    """How much work the recent images of each group were."""

    _work_s: dict[Hashable, float] = field(default_factory=dict)
    #: What a second of work counts now; it grows, which makes everything before it count less.
    _scale: float = 1.0
    _guests: float = MOST_GUESTS

    def note(self, group: Hashable, work_s: float) -> None:
        """A request came."""
        self._guests = min(MOST_GUESTS, self._guests + GUEST_SHARE)
        self._scale /= 1 - 1 / REMEMBERED_COUNT
        is_new = group not in self._work_s
        self._work_s[group] = self._work_s.get(group, 0.0) + self._scale * work_s
        if is_new or self._scale > MOST_SCALE:
            self._arrange()

    def of(self, group: Hashable, replicas: Sequence[str]) -> Sequence[str]:
        """Those among replicas, in an order that stays the same, that a group belongs to.

        Groups are laid end to end over the replicas, each as long as its share of the work, so that
        few replicas have more than one group and none more than its part.
        """
        count = len(replicas)
        all_s = sum(self._work_s.values())
        if group not in self._work_s or not all_s or not replicas:
            return replicas
        begin = 0.0
        for other, work_s in self._work_s.items():
            if other == group:
                break
            begin += count * work_s / all_s
        end = min(float(count), begin + count * self._work_s[group] / all_s)
        first, last = min(int(begin), count - 1), min(int(end), count - 1)
        shares = [min(end, at + 1) - max(begin, at) for at in range(first, last + 1)]
        least = min(LEAST_SHARE, max(shares))
        return [replicas[first + at] for at, share in enumerate(shares) if share >= least]

    def take_guest(self) -> bool:
        """Whether one more request may be a guest; it is counted."""
        if self._guests < 1:
            return False
        self._guests -= 1
        return True

    def _arrange(self) -> None:
        """In one order for all servers; what has the least work is forgotten."""
        kept = sorted(self._work_s, key=self._work_s.__getitem__, reverse=True)[:MOST_GROUPS]
        # Small numbers again.
        self._work_s = {one: self._work_s[one] / self._scale for one in sorted(kept, key=repr)}
        self._scale = 1.0
