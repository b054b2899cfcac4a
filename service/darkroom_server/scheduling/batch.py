"""Which images share a step: up to the knee of the cost curve, and as far as they may."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial

from darkroom_server.scheduling.entry import Entry, Shape, Step
from darkroom_server.scheduling.pace import Pace
from darkroom_server.scheduling.play import MAX_LOOKED_PAST
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_costs import StepCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Steps taken together. `key` is whose cost they have.

    `apart_row_count`: rows that waited and had room too, had the step been exact with them.
    """

    key: Hashable
    steps: tuple[Step, ...]
    row_count: int
    apart_row_count: int = 0


def room(shape: Shape, costs: StepCosts, shared: SharedRows) -> int:
    """Rows of a full batch of a shape; 0 where images run alone."""
    knee = costs.knee(shape.key)
    return shared.most(shape.key, knee) if shape.exact else knee


def pace(shape: Shape, costs: StepCosts, shared: SharedRows) -> Pace:
    """The pace of the images of a shape, by the costs known now."""
    return Pace(
        room=room(shape, costs, shared),
        step_s=cache(partial(costs.step_s, shape.key)),
        image_s=costs.image_s(shape.key),
        longest=partial(shared.longest, shape.key) if shape.exact else None,
    )


def filled(
    entries: Iterable[Entry],
    costs: StepCosts,
    shared: SharedRows,
    *,
    lead: Entry,
    chosen: Mapping[Entry, int] | None = None,
    spare_s: float = math.inf,
) -> Batch:
    """Images of the lead's group, in the order given, as far as there is room.

    Some that do not fit are skipped. With `chosen` the batch has that many images of each of
    these, and others only as far as they make it take no more than `spare_s` longer.
    """
    key = lead.shape.key
    room_rows = max(room(lead.shape, costs, shared), lead.shape.rows)
    side_by_side = room_rows >= 2 * lead.shape.rows
    steps: list[Step] = []
    image_rows: list[int] = []
    row_count = looked_past_count = 0
    for entry, count in (chosen or {}).items():
        indices = entry.image_order(side_by_side=side_by_side)[:count]
        steps += [Step(entry.job.job_id, index) for index in indices]
        image_rows += [entry.shape.rows] * len(indices)
        row_count += len(indices) * entry.shape.rows
    has, spent_s = set(steps), costs.least_step_s(key, row_count) if steps else 0.0
    longest_s = spent_s + spare_s
    besides_s = 0.0
    for entry in entries:
        rows, was_full = entry.shape.rows, False
        for index in entry.image_order(side_by_side=side_by_side):
            step = Step(entry.job.job_id, index)
            if step in has:
                continue
            image_s = costs.image_s(key) if entry.begins_or_ends(index) else 0.0
            was_full = row_count + rows > room_rows or (
                bool(steps)
                and costs.step_s(key, row_count + rows) + besides_s + image_s > longest_s
            )
            if was_full:
                break
            steps.append(step)
            has.add(step)
            image_rows.append(rows)
            row_count += rows
            besides_s += image_s
        looked_past_count += was_full
        if row_count >= room_rows or looked_past_count == MAX_LOOKED_PAST:
            break
    if lead.shape.exact:
        count = shared.longest(key, image_rows)
        steps, row_count = steps[:count], sum(image_rows[:count])
    return Batch(key=key, steps=tuple(steps), row_count=row_count)
