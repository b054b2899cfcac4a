"""What a `config.pbtxt` says, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from darkroom_server.domain.adapters import AdapterMemory
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.fake_pace import FakePace
from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.memory import MemoryProfile
from darkroom_server.domain.models import BackendKind, Denoiser, DeviceKind, Dtype, UpdatePolicy
from darkroom_server.domain.prompt_upsampling import PromptUpsampling
from darkroom_server.domain.trained_sizes import TrainedSizes
from darkroom_server.domain.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class LatestVersions:
    """The `count` highest versions serve."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class AllVersions:
    """Every version serves."""


@dataclass(frozen=True, slots=True)
class SpecificVersions:
    """The versions named serve."""

    versions: tuple[int, ...]


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


def chosen_versions(policy: VersionPolicy, numbers: list[int]) -> list[int]:
    """Those of the numbers, highest first, that the policy says."""
    match policy:
        case LatestVersions(count):
            return numbers[:count]
        case AllVersions():
            return numbers
        case SpecificVersions(wanted):
            return [number for number in numbers if number in wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroupSettings:
    """Workers of a version. None: not set."""

    count: int | None = None
    device: DeviceKind = DeviceKind.AUTO
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultSettings:
    """Overrides of the derived defaults. None: not set."""

    width_px: int | None = None
    height_px: int | None = None
    step_count: int | None = None
    guidance_scale: float | None = None
    scheduler: str | None = None
    strength: float | None = None
    preserve_unmasked: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """Overrides of the derived limits. None: not set."""

    min_size_px: int | None = None
    max_size_px: int | None = None
    max_pixel_count: int | None = None
    max_step_count: int | None = None
    max_image_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmupSettings:
    """Images made before a version serves. None: the default size."""

    width_px: int | None = None
    height_px: int | None = None
    batch_size: int = 1
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """Overrides of what is derived from the pipeline. None or empty: not set.

    A number that is written in the file is here as written, also when it is 0.
    """

    name: str = ""
    display_name: str = ""
    max_batch_size: int | None = None
    reproducibility: Reproducibility = Reproducibility.EXACT
    version_policy: VersionPolicy = LatestVersions()
    instance_groups: tuple[InstanceGroupSettings, ...] = ()
    max_queue_size: int | None = None
    aliases: tuple[str, ...] = ()
    hub_id: str = ""
    tasks: tuple[Task, ...] = ()
    defaults: DefaultSettings = DefaultSettings()
    limits: LimitSettings = LimitSettings()
    schedulers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    dtype: Dtype = Dtype.AUTO
    version_labels: tuple[tuple[str, int], ...] = ()
    dynamic_batching: DynamicBatching = field(default_factory=DynamicBatching)
    memory: MemoryProfile = field(default_factory=MemoryProfile)
    adapter_memory: AdapterMemory = field(default_factory=AdapterMemory)
    traffic_percent: tuple[tuple[str, float], ...] = ()
    warmups: tuple[WarmupSettings, ...] = ()
    license: str = ""
    update_policy: UpdatePolicy = UpdatePolicy.AVAILABILITY
    denoiser: Denoiser = field(default_factory=Denoiser)
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    trained_sizes: TrainedSizes = field(default_factory=TrainedSizes)
    prompt_upsampling: PromptUpsampling = field(default_factory=PromptUpsampling)
    backend: BackendKind = BackendKind.DIFFUSERS
    fake: FakePace = field(default_factory=FakePace)
