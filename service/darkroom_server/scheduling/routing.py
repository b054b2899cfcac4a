"""Which replica a job goes to: where it is done soonest, and adds the least to what is there.

Pure: loads and the source of chance come in as arguments. The front tier and the bench ask it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from darkroom_server.scheduling.pace import Load, Pace
from darkroom_server.scheduling.play import Player, play

#: Replicas that are compared of each kind.
CHOICES = 2
#: Weight of what a job adds to the work of a busy replica, against the time when it is done
#: itself: it is what those that come after it wait for.
ADDED_WEIGHT = 8.0
#: Weight of the cost at a busy replica that the job's size does not belong to: each job there keeps
#: those that belong there from sharing their steps.
GUEST_WEIGHT = 6.0


@dataclass(frozen=True, slots=True)
class Task:
    """A job as routing sees it: images of one `group` can share steps."""

    group: Hashable
    pace: Pace
    load: Load


@dataclass(frozen=True, slots=True)
class ReplicaLoad:
    """What a replica has to do: jobs that are known, and `other_s` seconds of what is not."""

    tasks: Sequence[Task] = ()
    other_s: float = 0.0


def cost_s(load: ReplicaLoad, task: Task) -> float:
    """What it costs to give a job to a replica: when it is done there, and what it adds.

    A job that joins steps which are taken anyway adds little; one of another size adds all of
    itself, to everyone there. To an idle replica it adds nothing that anybody waits for.
    """
    before_s = play(_players(load.tasks), 0.0).end_s
    course = play(_players((*load.tasks, task)), 0.0)
    added_s = max(0.0, course.end_s - before_s)
    busy_s = load.other_s + before_s
    weight = ADDED_WEIGHT * min(1.0, busy_s / max(task.pace.least_s(task.load), 1e-9))
    return load.other_s + course.done_s[-1] + weight * added_s


def choose(
    homes: Sequence[str],
    alike: Sequence[str],
    others: Sequence[str],
    task: Task,
    load_of: Callable[[str], ReplicaLoad],
    rng: random.Random,
) -> str | None:
    """The replica that a job goes to; None when there is none.

    Two of its `homes` are compared, two `alike` of these, which have jobs of its size, and two
    `others`: an idle one is as good as a home, a busy one has to be much better. The work does not
    grow with the number of replicas.
    """
    own = dict.fromkeys((*_some(homes, rng), *_some(alike, rng)))
    costs = {one: cost_s(load_of(one), task) for one in own}
    for one in _some(others, rng):
        load = load_of(one)
        is_idle = not load.tasks and not load.other_s
        costs[one] = (1.0 if is_idle else GUEST_WEIGHT) * cost_s(load, task)
    return min(costs, key=costs.__getitem__, default=None)


def _some(of: Sequence[str], rng: random.Random) -> Sequence[str]:
    return of if len(of) <= CHOICES else rng.sample(of, CHOICES)


def _players(tasks: Sequence[Task]) -> list[Player]:
    return [Player(group=one.group, pace=one.pace, load=one.load) for one in tasks]


def step_s_of(curve: Mapping[int, float]) -> Callable[[int], float]:
    """Seconds of a step by rows: straight lines between what is known, in proportion beyond."""
    known = sorted(curve)

    def step_s(row_count: int) -> float:
        if row_count in curve:
            return curve[row_count]
        below = [one for one in known if one < row_count]
        above = [one for one in known if one > row_count]
        if not (below and above):
            nearest = below[-1] if below else above[0]
            return curve[nearest] * row_count / nearest
        fewer, more = below[-1], above[0]
        share = (row_count - fewer) / (more - fewer)
        return curve[fewer] + share * (curve[more] - curve[fewer])

    return step_s
