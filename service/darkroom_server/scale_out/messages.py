"""What travels between a front tier and a replica. All picklable."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job, JobEvent
from darkroom_server.domain.models import Dtype
from darkroom_server.worker.messages import WorkerStats


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    """Run this job. Clocks differ between machines: `left_s` is what its deadline leaves it.

    `avoided`: replicas that have refused or lost it.
    """

    job: Job
    left_s: float | None
    is_promised: bool
    avoided: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaState:
    """How a replica is doing. `work_s`: device seconds of all jobs that it has, from wherever.

    `number`: states of a replica are numbered, because those of two jobs may overtake each other.
    """

    replica_id: str
    number: int
    node_id: str
    work_s: float
    memory_bytes: int
    dtype: Dtype
    made_by: str
    stats: WorkerStats


@dataclass(frozen=True, slots=True)
class JobNews:
    """Events of a job since the last ones, what it failed of, and how its replica is."""

    events: tuple[JobEvent, ...]
    error: DarkroomError | None
    state: ReplicaState | None = None
