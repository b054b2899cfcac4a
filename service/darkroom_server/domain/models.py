"""Models and their versions: how they are configured, and what is on disk."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path

from darkroom_server.domain.adapters import AdapterMemory
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.fake_pace import FakePace
from darkroom_server.domain.jobs import Reproducibility, StrengthRounding, Task
from darkroom_server.domain.memory import MemoryProfile
from darkroom_server.domain.prompt_upsampling import PromptUpsampling
from darkroom_server.domain.references import ReferenceRule
from darkroom_server.domain.trained_sizes import TrainedSizes
from darkroom_server.domain.vocabulary import Vocabulary


class Dtype(enum.Enum):
    """Numeric type of weights in memory; AUTO is FP32 on a processor and BF16 on a GPU."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


class BackendKind(enum.Enum):
    """What runs a model."""

    DIFFUSERS = "diffusers"
    FAKE = "fake"


class DenoiserKind(enum.Enum):
    """What computes the steps."""

    TORCH = "torch"
    TORCH_COMPILE = "torch_compile"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"

    @property
    def is_exported(self) -> bool:
        """Whether it runs what `darkroom export` wrote."""
        return self in (DenoiserKind.ONNXRUNTIME, DenoiserKind.OPENVINO)


class ExportWeights(enum.Enum):
    """Numeric type of the weights of an exported denoiser."""

    FP32 = "fp32"
    INT8 = "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoiser:
    """What computes the steps of a model, and how.

    `compute` is FP32 or BF16; `compiled_sizes` are pairs of width and height in px.
    `attention_backend` empty: the library's own choice.
    """

    kind: DenoiserKind = DenoiserKind.TORCH
    weights: ExportWeights = ExportWeights.FP32
    compute: Dtype = Dtype.FP32
    compiled_sizes: tuple[tuple[int, int], ...] = ()
    attention_backend: str = ""
    cuda_graphs: bool = False

    @property
    def label(self) -> str:
        """What fingerprints call it: everything of it that pixels depend on."""
        parts = [self.kind.value]
        if self.weights is not ExportWeights.FP32:
            parts.append(self.weights.value)
        if self.compute is not Dtype.FP32:
            parts.append(self.compute.value)
        if self.attention_backend:
            parts.append(self.attention_backend)
        return "-".join(parts)


class DeviceKind(enum.Enum):
    """Where a worker runs."""

    AUTO = "auto"
    GPU = "gpu"
    CPU = "cpu"


class UpdatePolicy(enum.Enum):
    """How a new version takes the place of an old one."""

    #: The old one serves until the new one does: both are in memory meanwhile.
    AVAILABILITY = "availability"
    #: The old one leaves first: requests wait meanwhile.
    RESOURCE = "resource"
    #: AVAILABILITY where both fit into memory, else RESOURCE.
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one worker runs; `gpu` is a device's number, None the first or none."""

    device: DeviceKind = DeviceKind.AUTO
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What a request names: a model (name, hub id or alias; empty for the default) and a version.

    `version` is a number, a label, or empty for the default version.
    """

    name: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Values used when a request sets none."""

    width_px: int
    height_px: int
    step_count: int
    guidance_scale: float
    scheduler: str
    strength: float = 1.0
    preserve_unmasked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may ask of a model. Sizes are multiples of `size_multiple_px`."""

    min_size_px: int
    max_size_px: int
    size_multiple_px: int
    max_pixel_count: int
    max_step_count: int
    max_image_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """`batch_size` images of a size, made at once, `count` times, before a version serves."""

    width_px: int
    height_px: int
    batch_size: int = 1
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model's configuration, complete: nothing in it is left to a default.

    `parameters` maps every request field that the model accepts to whether it has an effect;
    a field missing there is one the model cannot honour.
    """

    name: str
    display_name: str
    hub_id: str
    aliases: tuple[str, ...]
    license: str
    tasks: frozenset[Task]
    pipeline_class: str
    backend: BackendKind
    dtype: Dtype
    placements: tuple[Placement, ...]  # one for each worker of a version
    defaults: Defaults
    limits: Limits
    schedulers: tuple[str, ...]
    parameters: dict[str, bool]
    max_queue_size: int
    max_batch_size: int
    reproducibility: Reproducibility
    version_labels: dict[str, int]
    strength_rounding: StrengthRounding = StrengthRounding.DOWN
    #: Whether requests run from end to end, and are guided only if they have a negative prompt.
    runs_whole: bool = False
    guidance_needs_negative: bool = False
    #: How it edits, if it does; what runs it step by step: a module of the families, and a class.
    references: ReferenceRule | None = None
    step_model: str = ""
    dynamic_batching: DynamicBatching = field(default_factory=DynamicBatching)
    memory: MemoryProfile = field(default_factory=MemoryProfile)
    adapter_memory: AdapterMemory = field(default_factory=AdapterMemory)
    traffic_percent: dict[str, float] = field(default_factory=dict)  # of each label
    warmups: tuple[Warmup, ...] = ()
    update_policy: UpdatePolicy = UpdatePolicy.AVAILABILITY
    denoiser: Denoiser = Denoiser()
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    trained_sizes: TrainedSizes = field(default_factory=TrainedSizes)
    fake: FakePace = field(default_factory=FakePace)
    prompt_upsampling: PromptUpsampling = field(default_factory=PromptUpsampling)

    @property
    def runtime(self) -> str:
        """What computes its pixels, for fingerprints: classes of optimum's begin with OV."""
        return "openvino" if self.pipeline_class.startswith("OV") else "torch"

    @property
    def runtime_label(self) -> str:
        """The same, with all of the denoiser's choice that pixels depend on."""
        return self.denoiser.label if self.runtime == "torch" else self.runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """A file of a version as it was when its content was read; `name` is relative to the folder."""

    name: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str  # of the content, hex


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """One version on disk. `digest` is the hex SHA-256 over names and contents of its `files`.

    `path` is the folder itself: links to it may lead elsewhere by the time it is loaded.
    """

    model: ModelInfo
    version: int
    path: Path
    digest: str
    weight_bytes: int
    labels: tuple[str, ...] = ()
    files: tuple[FileStamp, ...] = ()
