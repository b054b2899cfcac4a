"""What travels over the pipe between the server and one worker process. All picklable."""

from __future__ import annotations

from dataclasses import dataclass

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job, JobEvent
from darkroom_server.domain.models import Dtype, VersionInfo

# Server to worker.


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Run this job."""

    job: Job


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop this job at the next step; no event of it follows."""

    job_id: str


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Leave at the next step."""


Command = SubmitJob | CancelJob | StopWorker


# Worker to server.


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The model is loaded."""

    memory_bytes: int
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """The model cannot be loaded; the worker ends."""

    message: str


@dataclass(frozen=True, slots=True)
class JobReport:
    """An event of a job."""

    job_id: str
    event: JobEvent


@dataclass(frozen=True, slots=True)
class JobFailed:
    """A job ended without its images."""

    job_id: str
    error: DarkroomError


Report = WorkerReady | WorkerFailed | JobReport | JobFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker process is started with."""

    version: VersionInfo
    thread_count: int
