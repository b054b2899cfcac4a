"""Worker processes, a repository and requests that do what a test says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.models import UpdatePolicy, VersionInfo
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.model_config.config_override import ConfigOverride
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan
from darkroom_server.worker.messages import Report
from tests.unit.example_models import SDXL
from tests.unit.specs import job

NAME = "m"


class ScriptedProcess:
    """A worker process that does what the machine says; `running` holds those not stopped."""

    running: list[ScriptedProcess]

    def __init__(
        self, spec: Any, *, on_report: Callable[[Report], None], on_exit: Callable[[bool], None]
    ) -> None:
        self.version = spec.version.version
        self.say = on_report
        self.die = lambda was_killed=False: on_exit(was_killed)
        self.is_ready = self.is_dead = False
        self.pid = 1

    async def start(self) -> None:
        ScriptedProcess.running.append(self)

    async def stop(self, *, by_force: bool) -> None:
        del by_force
        if self in ScriptedProcess.running:
            ScriptedProcess.running.remove(self)

    def send(self, command: object) -> None:
        """Taken, and done when the machine says so."""

    def kill(self) -> None:
        """Never: nothing hangs here."""


class ToldRepository:
    """What the repository holds is what the machine puts there."""

    def __init__(self, policy: UpdatePolicy) -> None:
        self.digests: dict[int, str] = {1: "a"}
        self._policy = policy

    def use_configs(self, overrides: Mapping[str, ConfigOverride]) -> None:
        """Nobody sends any."""

    def scan(self, in_use: Collection[Path] = ()) -> RepositoryScan:
        del in_use
        model = replace(SDXL, name=NAME, update_policy=self._policy, max_queue_size=1000)
        versions = tuple(
            VersionInfo(
                model=model,
                version=number,
                path=Path(),
                digest=self.digests[number],
                weight_bytes=0,
            )
            for number in sorted(self.digests, reverse=True)
        )
        found = RepositoryModel(
            info=model, versions=versions, serving=tuple(one.version for one in versions[:1])
        )
        return RepositoryScan(models=(found,) if versions else (), broken=(), problems=())

    def close(self) -> None:
        """Nothing is under way."""


class Request:
    """A request that holds a version."""

    def __init__(self, job_id: str, supervisor: Supervisor) -> None:
        self.job_id = job_id
        self.supervisor = supervisor
        supervisor.acquire()
        self.stream: JobStream = supervisor.submit(job(job_id))

    @property
    def error(self) -> DarkroomError | None:
        return self.stream._error
