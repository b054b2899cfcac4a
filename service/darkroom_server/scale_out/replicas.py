"""What is asked of whatever runs replicas: start them, say how they are, take a job."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from darkroom_server.scale_out.messages import JobNews, ReplicaState, RunJob
from darkroom_server.scale_out.options import ReplicaOrder, ScaleOutOptions


class ClusterLost(Exception):
    """The cluster, or a part of it, cannot be reached, or does not execute a command."""


class ReplicaLost(Exception):
    """A replica said no end of a job: it died, was ended, or cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStatus:
    """How the replicas of an application are, by state, and whether they were given up.

    `is_failing`: some fail to start, and `message` has the cause; they are tried again.
    """

    is_there: bool = False
    has_failed: bool = False
    is_failing: bool = False
    message: str = ""
    replicas: Mapping[str, int] = field(default_factory=dict)
    target_count: int = 0

    @property
    def running_count(self) -> int:
        """Replicas that take jobs."""
        return self.replicas.get("RUNNING", 0)

    @property
    def summary(self) -> str:
        """Replicas by state, in words, and why some do not start."""
        counts = (f"{count} {state.lower()}" for state, count in sorted(self.replicas.items()))
        states = ", ".join(counts) or "none"
        return f"{states}; one does not start: {self.message}" if self.is_failing else states


class JobCall(Protocol):
    """A job at a replica."""

    def news(self) -> AsyncGenerator[JobNews]:
        """What happens to it; raises ReplicaLost."""
        ...

    def cancel(self) -> None:
        """Stops the work. Does not block, and may be called at any time."""
        ...


class Replicas(Protocol):
    """The replicas of an application."""

    def send(self, request: RunJob) -> JobCall:
        """Gives a job to one of them. Does not block."""
        ...

    async def state(self) -> ReplicaState:
        """How one of them is; raises ReplicaLost."""
        ...


class ReplicaHost(Protocol):
    """Runs replicas. Methods block."""

    options: ScaleOutOptions
    is_leaving: bool

    def run(self, order: ReplicaOrder) -> Replicas:
        """Has replicas started, and does not wait for them; raises ClusterLost."""
        ...

    def delete(self, app_name: str) -> None:
        """Ends replicas; what they run they may end. Raises ClusterLost."""
        ...

    def status(self, app_name: str) -> AppStatus:
        """How replicas are; raises ClusterLost."""
        ...
