"""From the events of a stream to events of this package, with images put together and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from darkroom.v1 import image_pb2, image_service_pb2
from darkroom_client.errors import CorruptImage
from darkroom_client.events import (
    Accepted,
    Completed,
    Event,
    ImageReady,
    Preview,
    Progress,
    Queued,
    Stage,
)
from darkroom_client.results import (
    Batch,
    GeneratedImage,
    Generation,
    Parameters,
    Timings,
    Warning,
)

_Message = image_service_pb2.GenerationEvent
_STAGES = {stage.value: stage for stage in Stage}


class EventAssembler:
    """Reads one stream: `feed` every message, then `finish`. Both raise CorruptImage."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._announced: _Message.Image | None = None
        self._content = bytearray()
        self._image_indices: set[int] = set()
        self._completed = False

    def feed(self, message: _Message) -> Event | None:
        """The event, or None for one that is unknown or only a part of an image."""
        kind = message.WhichOneof("event")
        if kind is None:
            return None
        if self._completed:
            raise self._corrupt(f"an event `{kind}` came after the end")
        match kind:
            case "accepted":
                return self._accepted(message.accepted)
            case "queued":
                return _queued(message.queued)
            case "progress":
                return _progress(message.progress)
            case "preview":
                return _preview(message.preview)
            case "image":
                return self._image(message.image)
            case "chunk":
                return self._chunk(message.chunk)
            case "completed":
                return self._complete(message.completed)

    def finish(self) -> None:
        """Says that the stream ended without an error."""
        if not self._completed:
            raise self._corrupt("the stream ended early")

    def _accepted(self, accepted: _Message.Accepted) -> Accepted:
        return Accepted(
            generation_id=accepted.generation_id,
            request_id=self._request_id,
            parameters=_parameters(accepted.parameters),
            warnings=_warnings(accepted.warnings),
        )

    def _image(self, image: _Message.Image) -> ImageReady | None:
        self._require_whole()
        if image.image_index in self._image_indices:
            raise self._corrupt(f"image {image.image_index} came twice")
        self._image_indices.add(image.image_index)
        self._announced = image
        self._content.clear()
        return self._image_if_whole(image)

    def _chunk(self, chunk: _Message.Chunk) -> ImageReady | None:
        image = self._announced
        if image is None or chunk.image_index != image.image_index:
            raise self._corrupt(f"bytes of image {chunk.image_index} were not announced")
        expected = len(self._content)
        if chunk.offset_bytes != expected:
            what = "missing" if chunk.offset_bytes > expected else "doubled"
            raise self._corrupt(
                f"bytes of image {image.image_index} are {what}: "
                f"offset {chunk.offset_bytes} instead of {expected}"
            )
        self._content += chunk.content
        if len(self._content) > image.size_bytes:
            raise self._corrupt(f"image {image.image_index} is longer than announced")
        return self._image_if_whole(image)

    def _image_if_whole(self, image: _Message.Image) -> ImageReady | None:
        filtered = image.finish_reason == _Message.FINISH_REASON_CONTENT_FILTERED
        if len(self._content) < image.size_bytes:
            return None
        digest = hashlib.sha256(self._content)
        if not filtered and digest.digest() != image.sha256:
            raise self._corrupt(f"image {image.image_index} does not match its SHA-256")
        self._announced = None
        return ImageReady(
            GeneratedImage(
                content=bytes(self._content),
                media_type=image.media_type,
                width_px=image.width_px,
                height_px=image.height_px,
                seed=image.seed,
                image_index=image.image_index,
                sha256=digest.hexdigest(),
                content_filtered=filtered,
            )
        )

    def _complete(self, completed: _Message.Completed) -> Completed:
        self._require_whole()
        if completed.image_count != len(self._image_indices):
            raise self._corrupt(
                f"{len(self._image_indices)} images came instead of {completed.image_count}"
            )
        self._completed = True
        batch = _batch(completed.batch) if completed.HasField("batch") else None
        return Completed(
            completed.image_count,
            _timings(completed.timings),
            batch,
            _warnings(completed.warnings),
        )

    def _require_whole(self) -> None:
        image = self._announced
        if image is not None:
            raise self._corrupt(
                f"image {image.image_index} has {len(self._content)} "
                f"of the {image.size_bytes} bytes announced"
            )

    def _corrupt(self, message: str) -> CorruptImage:
        return CorruptImage(message, request_id=self._request_id)


def _queued(message: image_service_pb2.GenerationEvent.Queued) -> Queued:
    estimated_s = likely_within_s = None
    if message.HasField("estimated_duration"):
        estimated_s = message.estimated_duration.ToNanoseconds() / 1e9
    if message.HasField("likely_within"):
        likely_within_s = message.likely_within.ToNanoseconds() / 1e9
    return Queued(message.ahead_count, message.model_loading, estimated_s, likely_within_s)


def generation_of(events: Iterable[Event]) -> Generation:
    """The result of a whole stream of events. Raises CorruptImage when a needed one is missing."""
    accepted: Accepted | None = None
    completed: Completed | None = None
    images: list[GeneratedImage] = []
    for event in events:
        match event:
            case Accepted():
                accepted = event
            case ImageReady(image):
                images.append(image)
            case Completed():
                completed = event
            case Queued() | Progress() | Preview():
                pass
    if accepted is None or completed is None:
        raise CorruptImage("the stream has no beginning or no end")
    return Generation(
        images=tuple(sorted(images, key=lambda image: image.image_index)),
        parameters=accepted.parameters,
        warnings=accepted.warnings + completed.warnings,
        timings=completed.timings,
        generation_id=accepted.generation_id,
        request_id=accepted.request_id,
    )


def _warnings(told: Iterable[image_pb2.Warning]) -> tuple[Warning, ...]:
    return tuple(
        Warning(each.reason, each.description, each.field, tuple(each.words)) for each in told
    )


def _progress(progress: _Message.Progress) -> Progress:
    return Progress(
        _STAGES.get(progress.stage, Stage.UNKNOWN),
        progress.completed_step_count,
        progress.total_step_count,
        _batch(progress.batch) if progress.HasField("batch") else None,
    )


def _batch(batch: image_pb2.BatchInfo) -> Batch:
    return Batch(
        batch_id=batch.batch_id,
        image_count=batch.batch_image_count,
        request_image_count=batch.request_image_count,
    )


def _preview(preview: _Message.Preview) -> Preview:
    return Preview(
        image_index=preview.image_index,
        completed_step_count=preview.completed_step_count,
        media_type=preview.media_type,
        content=preview.content,
        width_px=preview.width_px,
        height_px=preview.height_px,
    )


def _parameters(parameters: image_pb2.EffectiveParameters) -> Parameters:
    return Parameters(
        model=parameters.model,
        model_version=parameters.model_version,
        model_digest=parameters.model_digest,
        width_px=parameters.width_px,
        height_px=parameters.height_px,
        step_count=parameters.step_count,
        guidance_scale=parameters.guidance_scale,
        scheduler=parameters.scheduler,
        seeds=tuple(parameters.seeds),
        strength=parameters.strength if parameters.HasField("strength") else None,
        preserve_unmasked=(
            parameters.preserve_unmasked if parameters.HasField("preserve_unmasked") else None
        ),
        fingerprint=parameters.fingerprint,
        rewritten_prompt=parameters.rewritten_prompt or None,
    )


def _timings(timings: image_pb2.Timings) -> Timings:
    return Timings(
        queue_s=_seconds(timings.queue_duration),
        load_s=_seconds(timings.load_duration),
        encode_s=_seconds(timings.encode_duration),
        denoise_s=_seconds(timings.denoise_duration),
        decode_s=_seconds(timings.decode_duration),
        compress_s=_seconds(timings.compress_duration),
        total_s=_seconds(timings.total_duration),
    )


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9
