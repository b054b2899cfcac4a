"""A request for images, as the engine and the workers see it, and what comes back."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from darkroom_server.domain.adapters import AdapterUse
from darkroom_server.domain.notices import Notice, NoticeReason


class Task(enum.Enum):
    """What a model can be asked to do."""

    TEXT_TO_IMAGE = "text-to-image"
    IMAGE_TO_IMAGE = "image-to-image"
    FILL = "fill"
    #: Text to image with reference images.
    EDIT = "edit"


class ImageFormat(enum.Enum):
    """Container of an encoded image; the value is its media type."""

    PNG = "image/png"
    JPEG = "image/jpeg"
    WEBP = "image/webp"


class Priority(enum.IntEnum):
    """Scheduling class; higher runs first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Reproducibility(enum.IntEnum):
    """How far an image's pixels may depend on what shares the device; higher is stricter."""

    #: Equal within a tolerance, whatever the neighbours.
    TOLERANCE = 0
    #: The bytes of the image made alone: steps are shared as far as that was proved.
    EXACT = 1


class UnsupportedParameterPolicy(enum.Enum):
    """What to do with a parameter that the chosen model cannot honour."""

    REJECT = "reject"
    IGNORE = "ignore"


class DimensionPolicy(enum.Enum):
    """What to do with a size that the model's grid does not divide."""

    ROUND_DOWN = "round-down"
    REJECT = "reject"


class MaskPolarity(enum.Enum):
    """Which mask value asks for new pixels."""

    WHITE_REPAINTS = "white"
    BLACK_REPAINTS = "black"
    #: Fully transparent pixels are repainted; colour is ignored.
    TRANSPARENT_REPAINTS = "transparent"


class StrengthRounding(enum.Enum):
    """What a family of pipelines does with the part of a step that a strength cuts off."""

    #: It is left out.
    DOWN = "down"
    #: It is run whole.
    UP = "up"

    def run_step_count(self, step_count: int, strength: float) -> int:
        """The steps that run, rounded in floating point as the pipelines do."""
        wanted = min(step_count * strength, step_count)
        match self:
            case StrengthRounding.DOWN:
                return int(wanted)
            case StrengthRounding.UP:
                return step_count - int(step_count - wanted)


class Stage(enum.Enum):
    """A part of the work on a job that progress events report."""

    ENCODE = "encode"
    DENOISE = "denoise"


@dataclass(frozen=True, slots=True)
class Pixels:
    """Raw 8-bit pixels, rows from the top, channels interleaved."""

    width_px: int
    height_px: int
    channel_count: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """How images are encoded. `quality` is 1 to 100 and unused for PNG and lossless WebP."""

    format: ImageFormat = ImageFormat.PNG
    quality: int = 90
    lossless: bool = False
    embed_metadata: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewSpec:
    """Previews of the latent every `interval_step_count` steps, `max_edge_px` at most."""

    interval_step_count: int
    max_edge_px: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCache:
    """When a step reuses what the denoiser's later blocks added before.

    `threshold`: the relative change of what the first block adds up to which it does.
    """

    threshold: float = 0.1

    @property
    def name(self) -> str:
        """For fingerprints."""
        return f"first-block-{self.threshold:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FillSpec:
    """What to repaint: an RGB image and a mask (one channel, 255 = repaint, 0 = keep).

    Both already have the output's size.
    """

    image: Pixels
    mask: Pixels
    strength: float
    preserve_unmasked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """What to begin with instead of noise: an RGB image of the output's size.

    `strength` is how far from it to go, above 0 to 1.
    """

    image: Pixels
    strength: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """A whole request with every default filled in: the same spec makes the same images.

    Image i of n is made with `seeds[i]`. `negative_prompt` None means that none was given, which
    some pipelines treat differently from an empty one. `fill` is set exactly when `task` is FILL,
    `source` exactly when it is IMAGE_TO_IMAGE. There are `reference_images`, RGB in the caller's
    order, when it is EDIT, each in its own size; or they stand beside the image of the other two.
    """

    task: Task
    prompt: str
    negative_prompt: str | None
    width_px: int
    height_px: int
    step_count: int
    guidance_scale: float
    scheduler: str
    seeds: tuple[int, ...]
    output: OutputSpec = OutputSpec()
    preview: PreviewSpec | None = None
    priority: Priority = Priority.NORMAL
    fill: FillSpec | None = None
    source: SourceSpec | None = None
    reference_images: tuple[Pixels, ...] = ()
    reproducibility: Reproducibility = Reproducibility.EXACT
    feature_cache: FeatureCache | None = None
    #: In the order in which they are added.
    adapters: tuple[AdapterUse, ...] = ()

    @property
    def step_pixel_count(self) -> int:
        """Pixels that a step of one image works on: its own, and those of its references."""
        shown = sum(one.width_px * one.height_px for one in self.reference_images)
        return self.width_px * self.height_px + shown

    @property
    def strength(self) -> float:
        """How much of the schedule runs."""
        given = self.fill or self.source
        return 1.0 if given is None else given.strength


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One admitted request on its way to a worker.

    `deadline_s` is on the monotonic clock of the process that holds the job.
    `caller` is whose it is, the holder of a key or a connection: callers share a device in
    proportion to their `weight`. `is_traced`: somebody wants to know with whom it shared steps.
    """

    job_id: str
    spec: ImageSpec
    deadline_s: float | None = None
    caller: str = ""
    weight: float = 1.0
    is_traced: bool = False


# What a worker says about a job.


@dataclass(frozen=True, slots=True)
class JobQueued:
    """Waiting behind `ahead_count` other jobs (or for the model to load).

    `estimated_s`: until all images are made; None when there is no estimate.
    `likely_within_s`: an upper bound that nine of ten jobs meet.
    """

    ahead_count: int
    model_loading: bool = False
    estimated_s: float | None = None
    likely_within_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """A stage began, or a denoising step ended. Droppable.

    `batch` is how that step was shared, where one was taken.
    """

    stage: Stage
    completed_step_count: int = 0
    total_step_count: int = 0
    batch: BatchShare | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPreview:
    """A small JPEG of an image so far. Droppable."""

    image_index: int
    completed_step_count: int
    content: bytes
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobImage:
    """A finished image, encoded; black where the model's content filter objected to it.

    `sha256` is the digest of `content`.
    """

    image_index: int
    format: ImageFormat
    width_px: int
    height_px: int
    seed: int
    content: bytes
    sha256: bytes
    is_filtered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTimings:
    """Where the time of a job went, in seconds. A worker knows of no loading."""

    queue_s: float = 0.0
    load_s: float = 0.0
    encode_s: float = 0.0
    denoise_s: float = 0.0
    decode_s: float = 0.0
    compress_s: float = 0.0
    total_s: float = 0.0


class WorkStage(enum.Enum):
    """What a worker does for a job; the value is its name in metrics and traces."""

    ENCODE = "encode"
    DENOISE = "denoise"
    DECODE = "decode"
    COMPRESS = "compress"


@dataclass(frozen=True, slots=True)
class StageSpan:
    """From when to when a stage of a job was worked on, seconds since the worker was given it."""

    stage: WorkStage
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkAccount:
    """What a job used, for accounting.

    `device_s` is its part of the seconds that the model worked: of a shared step, by its images.
    `spans` are there for every stage that was worked on, and `shared_with` names jobs that took a
    step with it, of one that is traced.
    """

    device_s: float = 0.0
    spans: tuple[StageSpan, ...] = ()
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchShare:
    """A step that a job took part in; of a job that has ended, the fullest.

    `batch_id` names it within its worker; `request_image_count` of its `batch_image_count` images
    were the job's own.
    """

    batch_id: str
    batch_image_count: int
    request_image_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCompleted:
    """All images were sent. Always a successful job's last event.

    `cut_fields` are those of its texts whose end the model did not read. `other_size_px`, width and
    height, is set where the model made its images in another size than was asked for.
    """

    image_count: int
    timings: JobTimings
    batch: BatchShare | None = None
    peak_device_memory_bytes: int = 0
    cut_fields: tuple[str, ...] = ()
    other_size_px: tuple[int, int] | None = None
    account: WorkAccount = WorkAccount()

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the caller should know that was not known before the request ran."""
        found = []
        for field in self.cut_fields:
            text = f"{field} is longer than the model's text encoders read; its end was left out"
            found.append(Notice(NoticeReason.PROMPT_TRUNCATED, text, field))
        if self.other_size_px is not None:
            width_px, height_px = self.other_size_px
            text = f"the model makes images of {width_px}x{height_px} px of such a request"
            found.append(Notice(NoticeReason.DIMENSION_NOT_KEPT, text, "width_px"))
        return tuple(found)


JobEvent = JobQueued | JobProgress | JobPreview | JobImage | JobCompleted
