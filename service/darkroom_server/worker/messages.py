"""What travels over the pipe between the server and one worker process. All picklable."""

from __future__ import annotations

from dataclasses import dataclass, field

from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import Job, JobEvent
from darkroom_server.domain.model_status import LoadProgress
from darkroom_server.domain.models import Dtype, Placement, VersionInfo
from darkroom_server.worker.checkpoint_file import CheckpointFile

# Server to worker.


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptImage:
    """The state of an image, as a worker that died had it, after how many of its steps."""

    image_index: int
    completed_step_count: int
    step_count: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierWork:
    """What workers that died had done of a job: images made, and how far others were.

    `step_count`: steps of each image that was made.
    """

    made_images: tuple[int, ...] = ()
    step_count: int = 0
    kept: tuple[KeptImage, ...] = ()

    def kept_of(self, image_index: int) -> KeptImage | None:
        """What is kept of an image."""
        return next((one for one in self.kept if one.image_index == image_index), None)

    def remaining(self, image_count: int, evaluations: int) -> dict[int, int]:
        """Evaluations left by image, of `evaluations` each; rounded up."""
        left = dict.fromkeys(range(image_count), evaluations)
        for index in self.made_images:
            del left[index]
        for one in self.kept:
            if one.image_index in left:
                steps = one.step_count - one.completed_step_count
                left[one.image_index] = max(1, -(-evaluations * steps // one.step_count))
        return left


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Run this job.

    `is_promised`: its caller has its `accepted` event; it is not refused in favour of others.
    `earlier`: work that need not be repeated.
    """

    job: Job
    is_promised: bool = False
    earlier: EarlierWork = EarlierWork()


@dataclass(frozen=True, slots=True)
class CancelJob:
    """Stop this job at the next step; no event of it follows.

    `since_s`: when its caller left, on this process's monotonic clock; None where none has.
    """

    job_id: str
    since_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Leave at the next step."""


Command = SubmitJob | CancelJob | StopWorker


# Worker to server.


@dataclass(frozen=True, slots=True)
class WorkerLoading:
    """How far the load is."""

    progress: LoadProgress


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The model is loaded. `made_by`: libraries and device, as fingerprints name them."""

    memory_bytes: int
    dtype: Dtype
    made_by: str = ""


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    """The model cannot be loaded; the worker ends.

    `is_starved`: it may be once the machine has room again.
    """

    message: str
    is_starved: bool = False


@dataclass(frozen=True, slots=True)
class JobReport:
    """An event of a job."""

    job_id: str
    event: JobEvent


@dataclass(frozen=True, slots=True)
class JobReports:
    """Events of several jobs that come at once."""

    reports: tuple[JobReport, ...]


@dataclass(frozen=True, slots=True)
class JobFailed:
    """A job ended without its images."""

    job_id: str
    error: DarkroomError


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """Where the state of an image is in the worker's checkpoint file, and of which step it is."""

    job_id: str
    image_index: int
    completed_step_count: int
    step_count: int
    byte_count: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ImagesSaved:
    """Images were kept; what was kept of them before is so no more."""

    images: tuple[SavedImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCost:
    """What images of a pixel count cost: seconds of a step by rows, and besides the steps.

    `room`: rows up to which a larger batch pays.
    """

    pixel_count: int
    room: int
    step_s_by_rows: tuple[tuple[int, float], ...]
    image_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """What the worker has done since it started; numbers but `prompt_cache_bytes` only grow.

    `step_count_by_rows`: pairs of a number of rows in use and the steps that had it, by rows. Rows
    are those of the denoiser, or images of a model that runs whole requests.
    `capacity_row_count`: rows that the steps would have had at the largest batch allowed.
    `recompile_count`: graphs compiled after the warm-up. `uncompiled_step_count`: steps whose
    shapes the warm-up did not have. `proved_row_count`: rows of the largest step that was proved
    exact; `is_proving`: whether more is being tried. `costs`: what is known by size.
    `apart_row_count`: rows that had room in a step and were kept apart for exactness.
    `step_count_by_s`: steps by their seconds, in two digits; `freed_count_by_s`: jobs that were
    cancelled, by the seconds until they took nothing any more.
    """

    step_count_by_rows: tuple[tuple[int, int], ...] = ()
    capacity_row_count: int = 0
    prompt_cache_hit_count: int = 0
    prompt_cache_miss_count: int = 0
    prompt_cache_bytes: int = 0
    recompile_count: int = 0
    uncompiled_step_count: int = 0
    proved_row_count: int = 0
    is_proving: bool = False
    costs: tuple[SizeCost, ...] = ()
    apart_row_count: int = 0
    step_count_by_s: tuple[tuple[float, int], ...] = ()
    freed_count_by_s: tuple[tuple[float, int], ...] = ()

    @property
    def step_count(self) -> int:
        """Steps taken."""
        return sum(steps for _, steps in self.step_count_by_rows)


Report = (
    WorkerLoading
    | WorkerReady
    | WorkerFailed
    | JobReport
    | JobReports
    | JobFailed
    | ImagesSaved
    | WorkerStats
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker process is started with; without `checkpoints` it keeps none."""

    version: VersionInfo
    thread_count: int
    placement: Placement
    prompt_cache_bytes: int
    checkpoints: CheckpointFile | None = None
