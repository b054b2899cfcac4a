"""Servers that run whole requests, for comparison: B0 to B3, on the virtual device.

None of them can stop a pipeline that runs. All but B0 turn away what is too late to begin.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from bench.virtual import Device, Idle, Turn
from bench.workloads import Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How whole requests are batched and ordered.

    `max_images` in a batch of equal parameters, which waits up to `max_delay_s` to fill;
    `shortest_first` instead of by arrival; `lost_last` ranks those behind that cannot make it any
    more; `drops_late` forgets those whose deadline has passed or whose caller has gone.
    """

    name: str
    max_images: int = 1
    max_delay_s: float = 0.0
    shortest_first: bool = False
    lost_last: bool = False
    drops_late: bool = True


B0 = Policy(name="B0", drops_late=False)
B1 = Policy(name="B1")


def b2(max_images: int, max_delay_s: float) -> Policy:
    """Same-key dynamic batching, in order of arrival."""
    return Policy(name="B2", max_images=max_images, max_delay_s=max_delay_s)


def b3(max_images: int, max_delay_s: float, *, lost_last: bool) -> Policy:
    """Shortest job first, and same-key batching."""
    return Policy(
        name="B3",
        max_images=max_images,
        max_delay_s=max_delay_s,
        shortest_first=True,
        lost_last=lost_last,
    )


@dataclass(frozen=True, slots=True)
class _Waiting:
    arrival: Arrival
    deadline_s: float | None
    alone_s: float


class WholeRequests:
    """A queue in front of a pipeline that takes lists of prompts with equal parameters."""

    def __init__(self, policy: Policy, device: Device) -> None:
        self._policy = policy
        self._device = device
        self._queue: dict[int, _Waiting] = {}

    def arrive(self, arrival: Arrival, deadline_s: float | None) -> None:
        """Takes a request."""
        alone_s = self._device.alone_s(arrival.kind)
        self._queue[arrival.index] = _Waiting(arrival, deadline_s, alone_s)

    def cancel(self, index: int) -> None:
        """Leaves the queue; what runs, runs on."""
        if self._policy.drops_late:
            self._queue.pop(index, None)

    def turn(self, now_s: float) -> Turn | Idle:
        """One call of the pipeline, by the device's table."""
        batch = self.take(now_s)
        if isinstance(batch, Idle):
            return batch
        first = batch[0]
        rows = sum(one.rows for one in batch)
        duration_s = first.step_count * self._device.step_s(first.size_px, rows)
        duration_s += self._device.decode_s(first.size_px) * len(batch)
        indexes = tuple(one.index for one in batch)
        ends_s = now_s + duration_s
        return Turn(duration_s, tuple((index, ends_s) for index in indexes), indexes)

    def take(self, now_s: float) -> list[Arrival] | Idle:
        """The requests of the pipeline's next call; they leave the queue."""
        if self._policy.drops_late:
            self._drop_late(now_s)
        ready_s: float | None = None
        for batch in self._batches(now_s):
            oldest_s = min(one.arrival.at_s for one in batch)
            if len(batch) == self._policy.max_images or self._waited(oldest_s, now_s):
                return [self._queue.pop(one.arrival.index).arrival for one in batch]
            due_s = oldest_s + self._policy.max_delay_s
            ready_s = due_s if ready_s is None else min(ready_s, due_s)
        return Idle(ready_s)

    def _waited(self, oldest_s: float, now_s: float) -> bool:
        return now_s >= oldest_s + self._policy.max_delay_s

    def _drop_late(self, now_s: float) -> None:
        for index, one in list(self._queue.items()):
            if one.deadline_s is not None and one.deadline_s <= now_s:
                del self._queue[index]

    def _batches(self, now_s: float) -> list[list[_Waiting]]:
        """The batch of every key, the one that goes first first."""
        groups: dict[Hashable, list[_Waiting]] = {}
        for one in sorted(self._queue.values(), key=lambda one: self._rank(one, now_s)):
            group = groups.setdefault(_key(one.arrival), [])
            if len(group) < self._policy.max_images:
                group.append(one)
        return list(groups.values())

    def _rank(self, one: _Waiting, now_s: float) -> tuple[bool, float, float]:
        is_lost = (
            self._policy.lost_last
            and one.deadline_s is not None
            and now_s + one.alone_s > one.deadline_s
        )
        length_s = one.alone_s if self._policy.shortest_first else 0.0
        return (is_lost, length_s, one.arrival.at_s)


def _key(arrival: Arrival) -> Hashable:
    """What a pipeline takes once for a whole batch."""
    return (arrival.step_count, arrival.guidance_scale, arrival.scheduler, arrival.size_px)
