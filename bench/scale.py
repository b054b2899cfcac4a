"""Many replicas on the virtual clock, and ways to route between them: `python -m bench.scale`.

Every replica is the real step batcher on a device of the table; requests are routed as the front
tier does, by the same function. What a replica refuses is offered to others, as there.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.ours import SharedSteps
from bench.scoring import OBJECTIVES, Objective, percentile
from bench.virtual import UNSATURATED, Device, Turn
from bench.workloads import W_MIX, W_SIZE, Arrival, Workload, at_rate
from darkroom_server.scheduling.homes import Homes
from darkroom_server.scheduling.pace import Load, Pace
from darkroom_server.scheduling.routing import ReplicaLoad, Task, choose

#: Replicas that a refused request is offered to, the first included.
MAX_OFFERS = 3
#: Requests of a run by replica; fewer where there are very many.
REQUESTS_EACH, MOST_REQUESTS = 300, 12_000


@dataclass(slots=True)
class Replica:
    """A device, the requests that it has by size, and until when it is busy."""

    system: SharedSteps
    tasks: dict[int, tuple[Arrival, Task]] = field(default_factory=dict)
    is_busy: bool = False
    busy_s: float = 0.0
    row_count: int = 0
    step_count: int = 0

    def load(self) -> ReplicaLoad:
        """What a front tier knows of it: the steps that its requests have left."""
        return ReplicaLoad(tuple(self._now(task, one) for one, task in self.tasks.values()))

    def _now(self, task: Task, one: Arrival) -> Task:
        left = self.system.left_step_count(one.index)
        return Task(task.group, task.pace, Load(rows=task.load.rows, evaluations=(left,)))


class Tier:
    """What routes: the replicas, and which of them have requests of a size."""

    def __init__(self, device: Device, count: int, seed: int) -> None:
        self.device = device
        self.replicas = [Replica(SharedSteps(device)) for _ in range(count)]
        #: As replicas report it.
        self.room = self.replicas[0].system.full_row_count
        self.names = [str(number) for number in range(count)]
        self.by_size: dict[int, Counter[str]] = {}
        self.homes = Homes()
        self.rng = random.Random(seed)
        self.turns = itertools.count()

    def task(self, one: Arrival) -> Task:
        """A request as routing sees it."""
        size_px = one.size_px
        pace = Pace(
            room=self.room,
            step_s=lambda rows: self.device.step_s(size_px, rows),
            image_s=self.device.decode_s(size_px),
        )
        return Task(size_px, pace, Load(rows=one.rows, evaluations=(one.step_count,)))

    def has_tasks(self, name: str) -> int:
        """Requests that a replica has."""
        return len(self.replicas[int(name)].tasks)


Route = Callable[[Tier, Task, frozenset[str]], str | None]


def at_random(tier: Tier, task: Task, avoided: frozenset[str]) -> str | None:
    """Any."""
    del task
    left = [one for one in tier.names if one not in avoided] if avoided else tier.names
    return tier.rng.choice(left) if left else None


def in_turn(tier: Tier, task: Task, avoided: frozenset[str]) -> str | None:
    """One after the other."""
    del task
    for _ in tier.names:
        name = tier.names[next(tier.turns) % len(tier.names)]
        if name not in avoided:
            return name
    return None


def fewest_requests(tier: Tier, task: Task, avoided: frozenset[str]) -> str | None:
    """The fewest requests of all."""
    del task
    left = [one for one in tier.names if one not in avoided]
    return min(left, key=tier.has_tasks, default=None)


def fewest_of_two(tier: Tier, task: Task, avoided: frozenset[str]) -> str | None:
    """Of two by chance the one with fewer requests."""
    del task
    left = [one for one in tier.names if one not in avoided] if avoided else tier.names
    return min(tier.rng.sample(left, min(2, len(left))), key=tier.has_tasks, default=None)


def rays_own(tier: Tier, task: Task, avoided: frozenset[str]) -> str | None:
    """What Ray Serve does by itself: the last, and what a replica refuses is refused."""
    return None if avoided else fewest_of_two(tier, task, avoided)


def ours(tier: Tier, task: Task, avoided: frozenset[str]) -> str | None:
    """By what a request costs where, among the replicas of its size first."""
    if not avoided:
        tier.homes.note(task.group, task.pace.work_s(task.load))
    own = frozenset(tier.homes.of(task.group, tier.names)) - avoided
    others = [one for one in tier.names if one not in own and one not in avoided]
    if not own:
        idle = [one for one in others if not tier.has_tasks(one)]
        if not idle and not tier.homes.take_guest():
            return None
        others = idle or others
    homes = [one for one in tier.names if one in own]
    alike = [one for one in tier.by_size.get(task.group, ()) if one in own]  # type: ignore[call-overload]

    def load_of(name: str) -> ReplicaLoad:
        return tier.replicas[int(name)].load()

    return choose(homes, alike, others, task, load_of, tier.rng)


ROUTES: dict[str, Route] = {
    "random": at_random,
    "round robin": in_turn,
    "least requests": fewest_requests,
    "two choices": fewest_of_two,
    "Ray's own": rays_own,
    "ours": ours,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run went. `imbalance`: the busiest replica against the mean."""

    met_share: float
    goodput_per_s: float
    p99_s: float
    rows_a_step: float
    imbalance: float
    route_us: float
    offers: float


def play(
    route: Route,
    count: int,
    arrivals: Sequence[Arrival],
    device: Device,
    objective: Objective = OBJECTIVES[0],
    seed: int = 1,
) -> Outcome:
    """Plays requests on so many replicas, to the end."""
    tier = Tier(device, count, seed)
    deadlines_s = {one.index: one.at_s + objective.allowed_s(one.kind, device) for one in arrivals}
    finished_s: dict[int, float] = {}
    order = itertools.count()
    events: list[tuple[float, int, Arrival | int]] = [
        (one.at_s, next(order), one) for one in arrivals
    ]
    heapq.heapify(events)
    routing_s, offer_count = 0.0, 0
    while events:
        now_s, _, what = heapq.heappop(events)
        if isinstance(what, Arrival):
            began_s = time.thread_time()
            placed, offers = _place(tier, route, what, deadlines_s[what.index])
            routing_s += time.thread_time() - began_s
            offer_count += offers
            if placed is None or tier.replicas[placed].is_busy:
                continue
            number = placed
        else:
            number = what
            tier.replicas[number].is_busy = False
        replica = tier.replicas[number]
        turn = replica.system.turn(now_s)
        if isinstance(turn, Turn):
            _book(tier, number, turn, finished_s)
            heapq.heappush(events, (now_s + turn.duration_s, next(order), number))
        _forget_dropped(tier, number)
    return _outcome(tier, arrivals, deadlines_s, finished_s, routing_s, offer_count)


def _place(tier: Tier, route: Route, one: Arrival, deadline_s: float) -> tuple[int | None, int]:
    """Offers a request until a replica takes it."""
    task, avoided = tier.task(one), frozenset[str]()
    for offer in range(1, MAX_OFFERS + 1):
        name = route(tier, task, avoided)
        if name is None:
            return None, offer
        replica = tier.replicas[int(name)]
        replica.system.arrive(one, deadline_s if one.tells_deadline else None)
        if one.index not in replica.system.refused:
            replica.tasks[one.index] = (one, task)
            tier.by_size.setdefault(one.size_px, Counter())[name] += 1
            return int(name), offer
        avoided |= {name}
    return None, MAX_OFFERS


def _book(tier: Tier, number: int, turn: Turn, finished_s: dict[int, float]) -> None:
    replica = tier.replicas[number]
    replica.is_busy = True
    replica.busy_s += turn.duration_s
    replica.step_count += 1
    replica.row_count += sum(replica.tasks[one][0].rows for one in turn.worked_on)
    for index, at_s in turn.finished:
        finished_s[index] = at_s
        _forget(tier, number, index)


def _forget_dropped(tier: Tier, number: int) -> None:
    """What was too late left by itself."""
    replica = tier.replicas[number]
    for index in [one for one in replica.tasks if not replica.system.left_step_count(one)]:
        _forget(tier, number, index)


def _forget(tier: Tier, number: int, index: int) -> None:
    found = tier.replicas[number].tasks.pop(index, None)
    if found is None:
        return
    alike, name = tier.by_size[found[0].size_px], str(number)
    alike[name] -= 1
    if not alike[name]:
        del alike[name]


def _outcome(
    tier: Tier,
    arrivals: Sequence[Arrival],
    deadlines_s: dict[int, float],
    finished_s: dict[int, float],
    routing_s: float,
    offer_count: int,
) -> Outcome:
    scored = arrivals[len(arrivals) // 10 : -max(1, len(arrivals) // 20)]
    met = [one for one in scored if finished_s.get(one.index, math.inf) <= deadlines_s[one.index]]
    latencies = sorted(
        finished_s[one.index] - one.at_s for one in scored if one.index in finished_s
    )
    busy = [one.busy_s for one in tier.replicas]
    steps = sum(one.step_count for one in tier.replicas)
    return Outcome(
        met_share=len(met) / len(scored),
        goodput_per_s=len(met) / (scored[-1].at_s - scored[0].at_s),
        p99_s=percentile(latencies, 0.99) if latencies else math.inf,
        rows_a_step=sum(one.row_count for one in tier.replicas) / max(1, steps),
        imbalance=max(busy) / max(1e-9, statistics.fmean(busy)),
        route_us=1e6 * routing_s / len(arrivals),
        offers=offer_count / len(arrivals),
    )


def sustained(
    route: Route, count: int, workload: Workload, device: Device, seed: int, halvings: int = 6
) -> Outcome:
    """The run at the highest rate at which the objective's share is met, by bisection."""
    request_count = min(MOST_REQUESTS, REQUESTS_EACH * count)
    drawn = workload.arrivals(seed, request_count, size_px=device.size_px)
    unit_per_s = count / statistics.fmean(device.alone_s(one.kind) for one in drawn)
    objective, low, high = OBJECTIVES[0], 0.5, 4.0
    best = play(route, count, at_rate(drawn, low * unit_per_s), device, objective, seed)
    for _ in range(halvings):
        middle = math.sqrt(low * high)
        run = play(route, count, at_rate(drawn, middle * unit_per_s), device, objective, seed)
        if run.met_share >= objective.share:
            low, best = middle, run
        else:
            high = middle
    return best


def at_load(
    route: Route, count: int, workload: Workload, device: Device, seed: int, load: float
) -> Outcome:
    """The run at so many times the rate that replicas make which serve one at a time."""
    request_count = min(MOST_REQUESTS, REQUESTS_EACH * count)
    drawn = workload.arrivals(seed, request_count, size_px=device.size_px)
    unit_per_s = count / statistics.fmean(device.alone_s(one.kind) for one in drawn)
    return play(route, count, at_rate(drawn, load * unit_per_s), device, seed=seed)


def main() -> None:
    """Prints a table for each workload."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--routes", nargs="*", default=list(ROUTES))
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--halvings", type=int, default=6)
    parser.add_argument("--load", type=float, help="one run at this load instead of a search")
    given = parser.parse_args()
    for workload in (W_MIX, W_SIZE):
        at = "the highest rate" if given.load is None else f"load {given.load:g}"
        print(f"\n{workload.name}: goodput at {at}, {OBJECTIVES[0].name}")
        print(
            f"{'replicas':>8}  {'routing':20} {'images/s':>9} {'each':>7} {'p99 s':>7}"
            f" {'rows/step':>9} {'busiest':>8} {'µs/route':>9} {'offers':>7}"
        )
        for count, name in itertools.product(given.replicas, given.routes):
            runs = [
                sustained(ROUTES[name], count, workload, UNSATURATED, seed, given.halvings)
                if given.load is None
                else at_load(ROUTES[name], count, workload, UNSATURATED, seed, given.load)
                for seed in given.seeds
            ]
            mean = {
                key: statistics.fmean(getattr(one, key) for one in runs)
                for key in (
                    "goodput_per_s",
                    "p99_s",
                    "rows_a_step",
                    "imbalance",
                    "route_us",
                    "offers",
                )
            }
            print(
                f"{count:8}  {name:20} {mean['goodput_per_s']:9.2f}"
                f" {mean['goodput_per_s'] / count:7.3f} {mean['p99_s']:7.2f}"
                f" {mean['rows_a_step']:9.2f} {mean['imbalance']:8.2f} {mean['route_us']:9.0f}"
                f" {mean['offers']:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
