"""The lane beside the loop: compresses images and previews; the device never waits for zlib."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from darkroom_server.backends.base import ImageArray, Painter
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import (
    BatchShare,
    Job,
    JobCompleted,
    JobImage,
    JobPreview,
    JobTimings,
    StageSpan,
    WorkAccount,
    WorkStage,
)
from darkroom_server.worker.encoding import encode_image, encode_preview, fitted_size
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.messages import JobFailed, JobReport, JobReports, Report


@dataclass(slots=True, kw_only=True)
class JobRecord:
    """Measurements of a job. The loop writes them until the last image is submitted."""

    job: Job
    submitted_s: float
    started_s: float = 0.0
    seconds: dict[WorkStage, float] = field(default_factory=lambda: dict.fromkeys(WorkStage, 0.0))
    spans: dict[WorkStage, StageSpan] = field(default_factory=dict)
    device_s: float = 0.0
    #: Jobs that took a step with it, in order; kept of one that is traced.
    shared_with: dict[str, None] = field(default_factory=dict)
    peak_memory_bytes: int = 0
    cut_fields: tuple[str, ...] = ()
    other_size_px: tuple[int, int] | None = None
    #: By their number; the lane's.
    sent_images: set[int] = field(default_factory=set)
    cancelled: bool = False
    #: The fullest step so far.
    batch: BatchShare | None = None

    def note(self, stage: WorkStage, from_s: float, until_s: float) -> None:
        """Accounts for work on this job only: encoding, decoding and compression."""
        duration_s = until_s - from_s
        self.seconds[stage] += duration_s
        if stage is not WorkStage.COMPRESS:
            self.device_s += duration_s
        known = self.spans.get(stage)
        begin_s = from_s - self.submitted_s if known is None else known.begin_s
        self.spans[stage] = StageSpan(stage, begin_s, until_s - self.submitted_s)

    def note_step(
        self, share: BatchShare, from_s: float, until_s: float, *, jobs: Iterable[str] = ()
    ) -> None:
        """Accounts for a step that the job shared with those jobs."""
        others_share = 1 - share.request_image_count / share.batch_image_count
        self.note(WorkStage.DENOISE, from_s, until_s)
        self.device_s -= (until_s - from_s) * others_share
        if self.job.is_traced:
            room = MAX_TRACED_NEIGHBOURS - len(self.shared_with)
            others = (one for one in jobs if one not in self.shared_with)
            self.shared_with.update(dict.fromkeys(itertools.islice(others, room)))
            self.shared_with.pop(self.job.job_id, None)
        if self.batch is None or share.batch_image_count > self.batch.batch_image_count:
            self.batch = share


#: Jobs that a trace names as having shared a step.
MAX_TRACED_NEIGHBOURS = 32
#: Previews that may wait for the lane: no more are painted, so that they never hold up images.
MAX_WAITING_PREVIEWS = 16
PREVIEW_QUALITY = 80


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """Pixels of one image of a job: uint8 [height, width, 3]."""

    image_index: int
    pixels: ImageArray
    is_filtered: bool = False


@dataclass(frozen=True, slots=True)
class WantedPreview:
    """A preview of one image of a job, after `completed_step_count` steps."""

    record: JobRecord
    image_index: int
    completed_step_count: int

    def encoded(self, pixels: ImageArray) -> JobPreview:
        """The event, of what was painted."""
        spec = self.record.job.spec
        assert spec.preview is not None
        size = fitted_size(spec.width_px, spec.height_px, spec.preview.max_edge_px)
        return JobPreview(
            image_index=self.image_index,
            completed_step_count=self.completed_step_count,
            content=encode_preview(pixels, size, quality=PREVIEW_QUALITY),
            width_px=size[0],
            height_px=size[1],
        )


class Compression:
    """One thread that encodes images and reports them; a job's last image completes it."""

    def __init__(self, emit: Callable[[Report], None], clock: Callable[[], float]) -> None:
        self._emit = emit
        self._clock = clock
        self._preview_room = threading.BoundedSemaphore(MAX_WAITING_PREVIEWS)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compress")

    def submit(self, record: JobRecord, image: FinishedImage) -> None:
        """Takes an image; from the loop's thread."""
        self._thread.submit(self._run, record, image)

    def reserve_previews(self, count: int) -> int:
        """How many of `count` previews there is room for, and which must be submitted."""
        places = itertools.takewhile(
            bool, (self._preview_room.acquire(blocking=False) for _ in range(count))
        )
        return sum(places)

    def give_back_previews(self, count: int) -> None:
        """Gives back the room of previews that will not be submitted."""
        self._preview_room.release(count)

    def submit_previews(self, wanted: Sequence[WantedPreview], painter: Painter) -> None:
        """Takes the previews of a step, for which room was reserved, to paint them all at once."""
        self._thread.submit(self._run_previews, wanted, painter)

    def complete(self, record: JobRecord) -> None:
        """Says that a job is done of which all images were sent before."""
        record.started_s = record.submitted_s
        self._report(record, _completed(record, self._clock()))

    def close(self) -> None:
        """Finishes what it has taken."""
        self._thread.shutdown(wait=True)

    def _run(self, record: JobRecord, image: FinishedImage) -> None:
        if record.cancelled:
            return
        failed = attempt(lambda: self._send(record, image))
        if failed is not None:
            record.cancelled = True
            self._emit(JobFailed(record.job.job_id, failed))

    def _run_previews(self, wanted: Sequence[WantedPreview], painter: Painter) -> None:
        """Paints and reports previews in one message; where that fails images go without."""
        self.give_back_previews(len(wanted))
        if all(one.record.cancelled for one in wanted):
            return
        reports = attempt(
            lambda: tuple(
                JobReport(one.record.job.job_id, one.encoded(pixels))
                for one, pixels in zip(wanted, painter(), strict=True)
                if not one.record.cancelled
            )
        )
        if reports and not isinstance(reports, DarkroomError):
            self._emit(JobReports(reports))

    def _send(self, record: JobRecord, image: FinishedImage) -> None:
        spec, started_s = record.job.spec, self._clock()
        seed = spec.seeds[image.image_index]
        metadata = None
        if spec.output.embed_metadata:
            metadata = {"prompt": spec.prompt, "seed": str(seed), "steps": str(spec.step_count)}
        content = encode_image(image.pixels, spec.output, metadata=metadata)
        sha256 = hashlib.sha256(content).digest()
        now_s = self._clock()
        record.note(WorkStage.COMPRESS, started_s, now_s)
        height_px, width_px = image.pixels.shape[:2]
        if (width_px, height_px) != (spec.width_px, spec.height_px):
            record.other_size_px = (width_px, height_px)
        self._report(
            record,
            JobImage(
                image_index=image.image_index,
                format=spec.output.format,
                width_px=width_px,
                height_px=height_px,
                seed=seed,
                content=content,
                sha256=sha256,
                is_filtered=image.is_filtered,
            ),
        )
        record.sent_images.add(image.image_index)
        if len(record.sent_images) == len(spec.seeds):
            self._report(record, _completed(record, now_s))

    def _report(self, record: JobRecord, event: JobImage | JobCompleted) -> None:
        self._emit(JobReport(record.job.job_id, event))


def _completed(record: JobRecord, now_s: float) -> JobCompleted:
    return JobCompleted(
        image_count=len(record.sent_images),
        timings=JobTimings(
            queue_s=record.started_s - record.submitted_s,
            encode_s=record.seconds[WorkStage.ENCODE],
            denoise_s=record.seconds[WorkStage.DENOISE],
            decode_s=record.seconds[WorkStage.DECODE],
            compress_s=record.seconds[WorkStage.COMPRESS],
            total_s=now_s - record.submitted_s,
        ),
        batch=record.batch,
        peak_device_memory_bytes=record.peak_memory_bytes,
        cut_fields=record.cut_fields,
        other_size_px=record.other_size_px,
        account=WorkAccount(
            device_s=record.device_s,
            spans=tuple(record.spans.values()),
            shared_with=tuple(record.shared_with),
        ),
    )
