"""What happens to a request, as `darkroom.v1` events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from google.protobuf.duration_pb2 import Duration

from darkroom.v1 import image_pb2
from darkroom.v1.image_service_pb2 import GenerationEvent
from darkroom_server.domain.jobs import (
    BatchShare,
    ImageFormat,
    JobCompleted,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
    JobTimings,
    OutputSpec,
    Stage,
)
from darkroom_server.domain.notices import Notice
from darkroom_server.domain.request_events import Accepted, RequestEvent, Validated

#: Far below the 4 MiB that stock clients receive, and cheap to send.
CHUNK_BYTES = 256 * 1024

_STAGES: Mapping[Stage, GenerationEvent.Stage.ValueType] = {
    Stage.ENCODE: GenerationEvent.STAGE_ENCODE,
    Stage.DENOISE: GenerationEvent.STAGE_DENOISE,
}
_FORMATS: Mapping[ImageFormat, image_pb2.OutputFormat.ValueType] = {
    ImageFormat.PNG: image_pb2.OUTPUT_FORMAT_PNG,
    ImageFormat.JPEG: image_pb2.OUTPUT_FORMAT_JPEG,
    ImageFormat.WEBP: image_pb2.OUTPUT_FORMAT_WEBP,
}


class EventWriter:
    """Writes the events of one generation, numbered and dated. Not shared between calls.

    `now_ns` is the wall clock, nanoseconds since 1970.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._sent_count = 0
        self._dropped_count = 0

    def write(self, happened: RequestEvent, dropped_count: int = 0) -> Iterator[GenerationEvent]:
        """One event, or for an image its announcement and then its bytes in chunks.

        `dropped_count` is how many events of the generation were dropped so far; the sequence
        leaves a gap for them.
        """
        self._dropped_count = dropped_count
        event = self._event()
        match happened:
            case Accepted():
                event.accepted.CopyFrom(_accepted(happened))
                yield event
            case Validated():
                event.completed.SetInParent()
                yield event
            case JobQueued():
                event.queued.ahead_count = happened.ahead_count
                event.queued.model_loading = happened.model_loading
                if happened.estimated_s is not None:
                    event.queued.estimated_duration.CopyFrom(_duration(happened.estimated_s))
                if happened.likely_within_s is not None:
                    event.queued.likely_within.CopyFrom(_duration(happened.likely_within_s))
                yield event
            case JobProgress():
                event.progress.stage = _STAGES[happened.stage]
                event.progress.completed_step_count = happened.completed_step_count
                event.progress.total_step_count = happened.total_step_count
                if happened.batch is not None:
                    event.progress.batch.CopyFrom(_batch(happened.batch))
                yield event
            case JobPreview():
                event.preview.CopyFrom(_preview(happened))
                yield event
            case JobImage():
                event.image.CopyFrom(_image(happened))
                yield event
                yield from self._chunks(happened)
            case JobCompleted():
                event.completed.CopyFrom(_completed(happened))
                yield event

    def _event(self) -> GenerationEvent:
        event = GenerationEvent(sequence=self._sent_count + self._dropped_count)
        event.event_time.FromNanoseconds(self._now_ns())
        self._sent_count += 1
        return event

    def _chunks(self, image: JobImage) -> Iterator[GenerationEvent]:
        for offset in range(0, len(image.content), CHUNK_BYTES):
            event = self._event()
            event.chunk.image_index = image.image_index
            event.chunk.offset_bytes = offset
            event.chunk.content = image.content[offset : offset + CHUNK_BYTES]
            yield event


def _accepted(accepted: Accepted) -> GenerationEvent.Accepted:
    return GenerationEvent.Accepted(
        generation_id=accepted.job_id,
        parameters=_effective(accepted),
        warnings=map(_warning, accepted.notices),
    )


def _effective(accepted: Accepted) -> image_pb2.EffectiveParameters:
    spec, model = accepted.spec, accepted.model
    return image_pb2.EffectiveParameters(
        model=f"models/{model.name}",
        model_version=model.version,
        model_digest=model.digest,
        width_px=spec.width_px,
        height_px=spec.height_px,
        step_count=spec.step_count,
        guidance_scale=spec.guidance_scale,
        scheduler=spec.scheduler,
        rewritten_prompt=accepted.rewritten_prompt,
        seeds=spec.seeds,
        strength=accepted.strength,
        preserve_unmasked=accepted.preserve_unmasked,
        output=_output(spec.output),
        adapters=[
            image_pb2.Adapter(
                name=use.adapter.name, version=str(use.adapter.version), weight=use.weight
            )
            for use in spec.adapters
        ],
        fingerprint=_fingerprint(accepted),
    )


def _fingerprint(accepted: Accepted) -> str:
    """What the pixels depend on besides the request's parameters."""
    spec, model = accepted.spec, accepted.model
    return "/".join(
        (
            model.digest[:12],
            model.dtype,
            model.runtime,
            spec.reproducibility.name.lower(),
            *model.variant,
            *((spec.feature_cache.name,) if spec.feature_cache else ()),
            *(f"adapter-{use.adapter.digest[:12]}" for use in spec.adapters),
            *((model.made_by,) if model.made_by else ()),
        )
    )


def _output(output: OutputSpec) -> image_pb2.OutputOptions:
    lossy = output.format is not ImageFormat.PNG and not output.lossless
    return image_pb2.OutputOptions(
        format=_FORMATS[output.format],
        quality=output.quality if lossy else None,
        lossless=output.lossless,
        embed_metadata=output.embed_metadata,
    )


def _warning(notice: Notice) -> image_pb2.Warning:
    return image_pb2.Warning(
        reason=notice.reason.value,
        description=notice.description,
        field=notice.field,
        words=notice.words,
    )


def _preview(preview: JobPreview) -> GenerationEvent.Preview:
    return GenerationEvent.Preview(
        image_index=preview.image_index,
        completed_step_count=preview.completed_step_count,
        media_type="image/jpeg",
        content=preview.content,
        width_px=preview.width_px,
        height_px=preview.height_px,
    )


def _image(image: JobImage) -> GenerationEvent.Image:
    return GenerationEvent.Image(
        image_index=image.image_index,
        media_type=image.format.value,
        width_px=image.width_px,
        height_px=image.height_px,
        seed=image.seed,
        size_bytes=len(image.content),
        sha256=image.sha256,
        finish_reason=(
            GenerationEvent.FINISH_REASON_CONTENT_FILTERED
            if image.is_filtered
            else GenerationEvent.FINISH_REASON_SUCCESS
        ),
    )


def _completed(completed: JobCompleted) -> GenerationEvent.Completed:
    return GenerationEvent.Completed(
        image_count=completed.image_count,
        timings=_timings(completed.timings),
        peak_device_memory_bytes=completed.peak_device_memory_bytes,
        warnings=map(_warning, completed.notices),
        batch=None if completed.batch is None else _batch(completed.batch),
    )


def _batch(share: BatchShare) -> image_pb2.BatchInfo:
    return image_pb2.BatchInfo(
        batch_id=share.batch_id,
        batch_image_count=share.batch_image_count,
        request_image_count=share.request_image_count,
    )


def _timings(timings: JobTimings) -> image_pb2.Timings:
    return image_pb2.Timings(
        queue_duration=_duration(timings.queue_s),
        load_duration=_duration(timings.load_s),
        encode_duration=_duration(timings.encode_s),
        denoise_duration=_duration(timings.denoise_s),
        decode_duration=_duration(timings.decode_s),
        compress_duration=_duration(timings.compress_s),
        total_duration=_duration(timings.total_s),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
