"""How models, their versions and their loads are doing now."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.models import ModelInfo


class VersionState(enum.Enum):
    """Life cycle of a version."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    #: Should serve, but no worker is up at the moment; one is being started.
    UNAVAILABLE = "unavailable"
    UNLOADING = "unloading"
    FAILED = "failed"


class LoadStage(enum.Enum):
    """Part of a load."""

    #: For memory, or for the version before to leave.
    WAITING = "waiting"
    #: The worker's process.
    STARTING = "starting"
    WEIGHTS = "weights"
    WARMUP = "warm-up"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """How far a load is. `total_bytes`: of weights, 0 when unknown."""

    stage: LoadStage
    loaded_bytes: int = 0
    total_bytes: int = 0
    completed_warmup_count: int = 0
    total_warmup_count: int = 0

    def __add__(self, other: LoadProgress) -> LoadProgress:
        """Both together: the stage is that of the one that is less far."""
        stages = tuple(LoadStage)
        return LoadProgress(
            stage=min(self.stage, other.stage, key=stages.index),
            loaded_bytes=self.loaded_bytes + other.loaded_bytes,
            total_bytes=self.total_bytes + other.total_bytes,
            completed_warmup_count=self.completed_warmup_count + other.completed_warmup_count,
            total_warmup_count=self.total_warmup_count + other.total_warmup_count,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSharing:
    """How requests of a version share steps: how exactly, and at most how many rows.

    `reason`: why none are shared. `is_proving`: whether more may be found to be shareable.
    """

    level: Reproducibility
    max_row_count: int = 0
    is_proving: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """How a version is doing now."""

    version: int
    state: VersionState
    message: str = ""
    labels: tuple[str, ...] = ()
    digest: str = ""
    memory_bytes: int = 0
    loaded_at_s: float | None = None
    weight_bytes: int = 0
    #: While it is LOADING.
    progress: LoadProgress | None = None
    #: Share of the requests naming no version that a label of it is given.
    traffic_percent: float = 0.0
    #: While it is loaded.
    step_sharing: StepSharing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A model, its versions (highest first), and what waits for it."""

    model: ModelInfo
    versions: tuple[VersionStatus, ...]
    default_version: int | None
    queued_request_count: int = 0
    adapters: tuple[AdapterVersion, ...] = ()
    #: Requests for these that name no model get it.
    default_tasks: frozenset[Task] = frozenset()

    @property
    def shown_version(self) -> VersionStatus | None:
        """The version whose state is the model's: the default one, else the newest."""
        for version in self.versions:
            if version.version == self.default_version:
                return version
        return self.versions[0] if self.versions else None

    def is_ready(self) -> bool:
        """Whether requests that name no version are served now."""
        shown = self.shown_version
        return shown is not None and shown.state is VersionState.READY

    def is_wanted(self) -> bool:
        """Whether it should serve: not all of its versions are unloaded or on their way out."""
        gone = (VersionState.UNLOADED, VersionState.UNLOADING)
        return any(version.state not in gone for version in self.versions)


def all_ready(models: Iterable[ModelStatus]) -> bool:
    """Whether there are models that should serve, and all of them do."""
    wanted = [status for status in models if status.is_wanted()]
    return bool(wanted) and all(status.is_ready() for status in wanted)
