"""The lane beside the loop: compresses images and previews; the device never waits for zlib."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from darkroom_server.backends.base import ImageArray
from darkroom_server.domain.jobs import (
    BatchShare,
    Job,
    JobCompleted,
    JobImage,
    JobPreview,
    JobTimings,
)
from darkroom_server.worker.encoding import encode_image, encode_preview, fitted_size
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.messages import JobFailed, JobReport, Report


@dataclass(slots=True, kw_only=True)
class JobRecord:
    """What is measured of a job. The loop writes it until the last image is handed to the lane."""

    job: Job
    submitted_s: float
    started_s: float = 0.0
    encode_s: float = 0.0
    denoise_s: float = 0.0
    decode_s: float = 0.0
    compress_s: float = 0.0
    peak_memory_bytes: int = 0
    cut_fields: tuple[str, ...] = ()
    other_size_px: tuple[int, int] | None = None
    sent_image_count: int = 0
    cancelled: bool = False
    #: The fullest step so far.
    batch: BatchShare | None = None

    def note_step(self, share: BatchShare, duration_s: float) -> None:
        """Books a step that the job took part in."""
        self.denoise_s += duration_s
        if self.batch is None or share.batch_image_count > self.batch.batch_image_count:
            self.batch = share


#: Previews that may wait for the lane: no more are painted, so that they never hold up images.
MAX_WAITING_PREVIEWS = 16
PREVIEW_QUALITY = 80


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """Pixels of one image of a job: uint8 [height, width, 3]."""

    image_index: int
    pixels: ImageArray
    is_filtered: bool = False


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
        """How many of so many previews there is room for, and which must be submitted."""
        places = itertools.takewhile(
            bool, (self._preview_room.acquire(blocking=False) for _ in range(count))
        )
        return sum(places)

    def give_back_previews(self, count: int) -> None:
        """Gives back the room of previews that will not be submitted."""
        self._preview_room.release(count)

    def submit_preview(self, record: JobRecord, image: FinishedImage, step_count: int) -> None:
        """Takes a preview after so many steps, for which room was reserved."""
        self._thread.submit(self._run_preview, record, image, step_count)

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

    def _run_preview(self, record: JobRecord, image: FinishedImage, step_count: int) -> None:
        self._preview_room.release()
        spec = record.job.spec
        if record.cancelled or spec.preview is None:
            return
        size = fitted_size(spec.width_px, spec.height_px, spec.preview.max_edge_px)
        content = encode_preview(image.pixels, size, quality=PREVIEW_QUALITY)
        self._report(
            record,
            JobPreview(
                image_index=image.image_index,
                completed_step_count=step_count,
                content=content,
                width_px=size[0],
                height_px=size[1],
            ),
        )

    def _send(self, record: JobRecord, image: FinishedImage) -> None:
        spec, started_s = record.job.spec, self._clock()
        seed = spec.seeds[image.image_index]
        metadata = None
        if spec.output.embed_metadata:
            metadata = {"prompt": spec.prompt, "seed": str(seed), "steps": str(spec.step_count)}
        content = encode_image(image.pixels, spec.output, metadata=metadata)
        now_s = self._clock()
        record.compress_s += now_s - started_s
        record.sent_image_count += 1
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
                is_filtered=image.is_filtered,
            ),
        )
        if record.sent_image_count == len(spec.seeds):
            self._report(record, _completed(record, now_s))

    def _report(self, record: JobRecord, event: JobImage | JobPreview | JobCompleted) -> None:
        self._emit(JobReport(record.job.job_id, event))


def _completed(record: JobRecord, now_s: float) -> JobCompleted:
    return JobCompleted(
        image_count=record.sent_image_count,
        timings=JobTimings(
            queue_s=record.started_s - record.submitted_s,
            encode_s=record.encode_s,
            denoise_s=record.denoise_s,
            decode_s=record.decode_s,
            compress_s=record.compress_s,
            total_s=now_s - record.submitted_s,
        ),
        batch=record.batch,
        peak_device_memory_bytes=record.peak_memory_bytes,
        cut_fields=record.cut_fields,
        other_size_px=record.other_size_px,
    )
