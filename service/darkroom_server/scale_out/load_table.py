"""What a front tier knows of the replicas of one application, to choose among them by.

Any thread: requests are routed on Ray's own, their events come on the server's.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, replace

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.scale_out.messages import ReplicaState, RunJob
from darkroom_server.scheduling.homes import Homes
from darkroom_server.scheduling.pace import Load, Pace
from darkroom_server.scheduling.routing import ReplicaLoad, Task, choose, step_s_of
from darkroom_server.worker.messages import SizeCost

#: Assumed cost of a row of a step until a replica has reported it.
UNKNOWN_ROW_S = 0.05
#: Rows of a step until then.
UNKNOWN_ROOM = 8


@dataclass(frozen=True, slots=True)
class _Placed:
    """A job at a replica."""

    replica_id: str
    task: Task


class LoadTable:
    """Who has what. `on_gone` is called with the replicas that take no more jobs."""

    def __init__(self, seed: int | None = None) -> None:
        self._lock = threading.Lock()
        self._rng = random.Random(seed)
        self._placed: dict[str, _Placed] = {}
        self._by_replica: dict[str, dict[str, Task]] = {}
        #: The replicas that take jobs, in the order that all servers have them in.
        self._order: tuple[str, ...] = ()
        self._homes = Homes()
        #: How many jobs of a group each replica has, of those that have any.
        self._by_group: dict[Hashable, Counter[str]] = {}
        self._states: dict[str, ReplicaState] = {}
        self._own_s: dict[str, float] = {}
        #: By pixels: a replica knows the sizes that it has made.
        self._costs: dict[int, SizeCost] = {}
        self.on_gone: Callable[[frozenset[str]], None] = lambda _: None

    @property
    def replica_ids(self) -> frozenset[str]:
        """Replicas that take jobs."""
        with self._lock:
            return frozenset(self._by_replica)

    def states(self) -> tuple[ReplicaState, ...]:
        """The last reports of the replicas that take jobs."""
        with self._lock:
            return tuple(one for key, one in self._states.items() if key in self._by_replica)

    def set_replicas(self, ids: Collection[str]) -> None:
        """These take jobs now, and no others."""
        with self._lock:
            gone = frozenset(self._by_replica) - frozenset(ids)
            for one in gone:
                del self._by_replica[one]
                self._states.pop(one, None)
            for one in ids:
                self._by_replica.setdefault(one, {})
            self._order = tuple(sorted(self._by_replica))
        if gone:
            self.on_gone(gone)

    def place(self, request: RunJob, candidates: Collection[str]) -> str | None:
        """The replica among candidates that a job goes to; None when it avoids all."""
        job, avoided = request.job, request.avoided
        with self._lock:
            task = self._task(job.spec)
            if not avoided:
                self._homes.note(task.group, task.pace.work_s(task.load))
            order = self._order or tuple(sorted(candidates))
            left = [one for one in order if one in candidates and one not in avoided]
            own = frozenset(self._homes.of(task.group, order)).intersection(left)
            homes = [one for one in left if one in own]
            alike = [one for one in self._by_group.get(task.group, ()) if one in own]
            others = [one for one in left if one not in own]
            if not homes:
                others = [one for one in others if self._is_idle(one)] or others
            chosen = choose(homes, alike, others, task, self._load, self._rng)
            if chosen is None:
                return None
            self._remove(job.job_id)
            self._by_group.setdefault(task.group, Counter())[chosen] += 1
            self._placed[job.job_id] = _Placed(chosen, task)
            self._by_replica.setdefault(chosen, {})[job.job_id] = task
            return chosen

    def is_offered(self, job_id: str, avoided: Collection[str]) -> bool:
        """Whether a job that some replicas refused is offered to another.

        To those of its size and to idle ones; to one that is busy with other sizes as long as few
        jobs need that.
        """
        with self._lock:
            found = self._placed.get(job_id)
            left = [one for one in self._order if one not in avoided]
            if found is None or not left:
                return False
            homes = self._homes.of(found.task.group, self._order)
            if any(one not in avoided for one in homes) or any(map(self._is_idle, left)):
                return True
            return self._homes.take_guest()

    def where(self, job_id: str) -> str | None:
        """The replica that has a job."""
        with self._lock:
            found = self._placed.get(job_id)
            return None if found is None else found.replica_id

    def progressed(self, job_id: str, left_share: float) -> None:
        """Notes the part of a job's steps that is left."""
        with self._lock:
            found = self._placed.get(job_id)
            if found is None:
                return
            load = found.task.load
            whole = max(load.evaluations, default=0)
            left = max(1, round(whole * left_share))
            now = replace(load, evaluations=tuple(min(one, left) for one in load.evaluations))
            at = self._by_replica.get(found.replica_id, {})
            if job_id in at:
                at[job_id] = replace(found.task, load=now)

    def ended(self, job_id: str) -> None:
        """A job is at no replica any more."""
        with self._lock:
            self._remove(job_id)

    def note_report(self, state: ReplicaState) -> ReplicaState | None:
        """Notes a replica's report; returns the one before, or this one when it is no newer."""
        with self._lock:
            known = self._states.get(state.replica_id)
            if known is not None and known.number >= state.number:
                return state
            self._states[state.replica_id] = state
            self._costs |= {one.pixel_count: one for one in state.stats.costs}
            self._own_s[state.replica_id] = self._work_s(state.replica_id)
            return known

    def _remove(self, job_id: str) -> None:
        found = self._placed.pop(job_id, None)
        if found is None:
            return
        self._by_replica.get(found.replica_id, {}).pop(job_id, None)
        alike = self._by_group[found.task.group]
        alike[found.replica_id] -= 1
        if not alike[found.replica_id]:
            del alike[found.replica_id]
        if not alike:
            del self._by_group[found.task.group]

    def _load(self, replica_id: str) -> ReplicaLoad:
        """This server's jobs, and by reports those of other servers."""
        state = self._states.get(replica_id)
        other_s = 0.0 if state is None else state.work_s - self._own_s.get(replica_id, 0.0)
        tasks = tuple(self._by_replica.get(replica_id, {}).values())
        return ReplicaLoad(tasks, max(0.0, other_s))

    def _is_idle(self, replica_id: str) -> bool:
        load = self._load(replica_id)
        return not load.tasks and not load.other_s

    def _work_s(self, replica_id: str) -> float:
        tasks = self._by_replica.get(replica_id, {}).values()
        return sum(one.pace.work_s(one.load) for one in tasks)

    def _task(self, spec: ImageSpec) -> Task:
        return Task(group_of(spec), pace_of(spec, self._costs.values()), load_of(spec))


def group_of(spec: ImageSpec) -> Hashable:
    """What images must have in common to share steps, as far as a request shows it."""
    return (spec.width_px, spec.height_px, spec.task, spec.reproducibility, spec.feature_cache)


def load_of(spec: ImageSpec, done_step_count: int = 0) -> Load:
    """The steps that a job has left."""
    rows = 2 if spec.guidance_scale > 1 else 1
    steps = max(1, round(spec.step_count * spec.strength) - done_step_count)
    return Load(rows=rows, evaluations=(steps,) * len(spec.seeds))


def pace_of(spec: ImageSpec, costs: Collection[SizeCost]) -> Pace:
    """How fast images of this size go, by what is known of the nearest."""
    pixel_count = spec.width_px * spec.height_px
    if not costs:
        return Pace(room=UNKNOWN_ROOM, step_s=lambda rows: UNKNOWN_ROW_S * rows, image_s=0.0)
    nearest = min(costs, key=lambda one: abs(one.pixel_count - pixel_count))
    scale = pixel_count / nearest.pixel_count
    step_s = step_s_of(dict(nearest.step_s_by_rows))
    return Pace(
        room=nearest.room,
        step_s=lambda rows: scale * step_s(rows),
        image_s=scale * nearest.image_s,
    )


_tables: dict[str, LoadTable] = {}
_tables_lock = threading.Lock()


def table_of(app_name: str) -> LoadTable:
    """The table of an application; Ray's routers, which it makes by itself, find it by name."""
    with _tables_lock:
        return _tables.setdefault(app_name, LoadTable())


def drop_table(app_name: str) -> None:
    """Nothing is sent to the application any more."""
    with _tables_lock:
        _tables.pop(app_name, None)
