"""Job events as `darkroom.v1` events."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest

from darkroom.v1 import image_pb2
from darkroom.v1.image_pb2 import BatchInfo
from darkroom.v1.image_service_pb2 import GenerationEvent
from darkroom_server.domain.jobs import (
    BatchShare,
    FeatureCache,
    FillSpec,
    ImageFormat,
    ImageSpec,
    JobCompleted,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
    JobTimings,
    OutputSpec,
    Pixels,
    Stage,
    Task,
)
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.request_events import Accepted, RunningModel, Validated
from darkroom_server.wire.events import CHUNK_BYTES, EventWriter

MODEL = RunningModel(name="sdxl", version=3, digest="0123456789abcdef", dtype="fp32")
SPEC = ImageSpec(
    task=Task.TEXT_TO_IMAGE,
    prompt="a cat",
    negative_prompt=None,
    width_px=512,
    height_px=256,
    step_count=9,
    guidance_scale=0.0,
    scheduler="DDIMScheduler",
    seeds=(5, 6),
)
ACCEPTED = Accepted.of("job-1", MODEL, SPEC)


def writer() -> EventWriter:
    """Its clock stands at 0 and goes on a second per event."""
    seconds = itertools.count()
    return EventWriter(lambda: next(seconds) * 10**9)


def image_of(content: bytes) -> JobImage:
    return JobImage(
        image_index=1,
        format=ImageFormat.WEBP,
        width_px=512,
        height_px=256,
        seed=6,
        content=content,
        sha256=hashlib.sha256(content).digest(),
    )


def accepted(spec: ImageSpec, *notices: Notice) -> GenerationEvent.Accepted:
    return written(Accepted.of("job-1", MODEL, spec, notices=notices))


def written(event: Accepted) -> GenerationEvent.Accepted:
    (message,) = writer().write(event)
    return message.accepted


def test_events_are_numbered_and_dated() -> None:
    events = writer()
    written = [event for _ in range(3) for event in events.write(JobQueued(1))]
    assert [event.sequence for event in written] == [0, 1, 2]
    assert [event.event_time.seconds for event in written] == [0, 1, 2]


def test_accepted_echoes_what_will_run() -> None:
    notice = Notice(NoticeReason.DIMENSION_ROUNDED, "519 became 512", "width_px")
    message = accepted(SPEC, notice)
    assert message.generation_id == "job-1"
    assert message.parameters == image_pb2.EffectiveParameters(
        model="models/sdxl",
        model_version=3,
        model_digest="0123456789abcdef",
        width_px=512,
        height_px=256,
        step_count=9,
        guidance_scale=0.0,
        scheduler="DDIMScheduler",
        seeds=[5, 6],
        output=image_pb2.OutputOptions(format=image_pb2.OUTPUT_FORMAT_PNG),
        fingerprint="0123456789ab/fp32/torch/exact",
    )
    assert list(message.warnings) == [
        image_pb2.Warning(
            reason="DIMENSION_ROUNDED", description="519 became 512", field="width_px"
        )
    ]


def test_the_fingerprint_names_memory_profile_feature_cache_and_libraries() -> None:
    spec = replace(SPEC, feature_cache=FeatureCache(threshold=0.1))
    model = replace(MODEL, variant=("int8-weights",), made_by="torch-1.0+avx2")
    told = written(Accepted.of("job-1", model, spec)).parameters.fingerprint
    assert told == "0123456789ab/fp32/torch/exact/int8-weights/first-block-0.1/torch-1.0+avx2"


@pytest.mark.parametrize(
    ("output", "quality"),
    [
        pytest.param(OutputSpec(format=ImageFormat.JPEG, quality=80), 80, id="jpeg"),
        pytest.param(OutputSpec(format=ImageFormat.WEBP), 90, id="webp"),
        pytest.param(OutputSpec(format=ImageFormat.WEBP, lossless=True), None, id="lossless"),
        pytest.param(OutputSpec(), None, id="png"),
    ],
)
def test_quality_is_told_only_where_it_counts(output: OutputSpec, quality: int | None) -> None:
    spec = ImageSpec(**{name: getattr(SPEC, name) for name in SPEC.__slots__} | {"output": output})
    told = accepted(spec).parameters.output
    assert (told.quality if told.HasField("quality") else None) == quality


def test_only_a_fill_has_a_strength() -> None:
    fill = FillSpec(
        image=Pixels(512, 256, 3, b""),
        mask=Pixels(512, 256, 1, b""),
        strength=0.0,
        preserve_unmasked=False,
    )
    spec = ImageSpec(**{name: getattr(SPEC, name) for name in SPEC.__slots__} | {"fill": fill})
    assert accepted(spec).parameters.HasField("strength")
    assert not accepted(SPEC).parameters.HasField("strength")


def test_queued() -> None:
    (event,) = writer().write(JobQueued(4, model_loading=True))
    assert event.queued == GenerationEvent.Queued(ahead_count=4, model_loading=True)


def test_queued_tells_how_long_when_that_can_be_told() -> None:
    (event,) = writer().write(JobQueued(0, estimated_s=2.5, likely_within_s=4.0))
    assert event.queued.estimated_duration.ToMilliseconds() == 2500
    assert event.queued.likely_within.ToMilliseconds() == 4000


@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.value)
def test_progress(stage: Stage) -> None:
    progress = JobProgress(stage=stage, completed_step_count=2, total_step_count=9)
    (event,) = writer().write(progress)
    assert event.progress == GenerationEvent.Progress(
        stage=GenerationEvent.Stage.Value(f"STAGE_{stage.name}"),
        completed_step_count=2,
        total_step_count=9,
    )


def test_preview() -> None:
    preview = JobPreview(
        image_index=1, completed_step_count=2, content=b"jpeg", width_px=64, height_px=32
    )
    (event,) = writer().write(preview)
    assert event.preview == GenerationEvent.Preview(
        image_index=1,
        completed_step_count=2,
        media_type="image/jpeg",
        content=b"jpeg",
        width_px=64,
        height_px=32,
    )


def test_an_image_is_announced_before_its_bytes() -> None:
    announced, chunk = writer().write(image_of(b"picture"))
    assert announced.image == GenerationEvent.Image(
        image_index=1,
        media_type="image/webp",
        width_px=512,
        height_px=256,
        seed=6,
        size_bytes=7,
        sha256=hashlib.sha256(b"picture").digest(),
        finish_reason=GenerationEvent.FINISH_REASON_SUCCESS,
    )
    assert chunk.chunk == GenerationEvent.Chunk(image_index=1, offset_bytes=0, content=b"picture")


def test_an_image_that_a_filter_made_black_says_so_and_has_its_bytes() -> None:
    announced, chunk = writer().write(replace(image_of(b"black"), is_filtered=True))
    assert announced.image.finish_reason == GenerationEvent.FINISH_REASON_CONTENT_FILTERED
    assert announced.image.size_bytes == len(chunk.chunk.content) == 5


@pytest.mark.parametrize(
    ("size_bytes", "lengths"),
    [
        pytest.param(0, [], id="nothing"),
        pytest.param(1, [1], id="a-byte"),
        pytest.param(CHUNK_BYTES, [CHUNK_BYTES], id="exactly-one"),
        pytest.param(CHUNK_BYTES + 1, [CHUNK_BYTES, 1], id="one-and-a-byte"),
        pytest.param(3 * CHUNK_BYTES, [CHUNK_BYTES] * 3, id="exactly-three"),
    ],
)
def test_chunks(size_bytes: int, lengths: list[int]) -> None:
    _, *chunks = writer().write(image_of(bytes(size_bytes)))
    assert [len(event.chunk.content) for event in chunks] == lengths
    assert [event.chunk.offset_bytes for event in chunks] == [
        index * CHUNK_BYTES for index in range(len(lengths))
    ]


def test_progress_names_the_step_that_was_shared() -> None:
    share = BatchShare(batch_id="7", batch_image_count=8, request_image_count=2)
    (shared, alone) = (
        event
        for batch in (share, None)
        for event in writer().write(JobProgress(stage=Stage.DENOISE, batch=batch))
    )
    assert shared.progress.batch == BatchInfo(
        batch_id="7", batch_image_count=8, request_image_count=2
    )
    assert not alone.progress.HasField("batch")


def test_completed() -> None:
    completed = JobCompleted(
        image_count=2,
        timings=JobTimings(queue_s=0.25, load_s=0.125, denoise_s=1.5, total_s=2.0),
        batch=BatchShare(batch_id="7", batch_image_count=8, request_image_count=2),
        peak_device_memory_bytes=10**10,
        cut_fields=("negative_prompt",),
    )
    (event,) = writer().write(completed)
    assert event.completed.image_count == 2
    assert event.completed.timings.queue_duration.ToMilliseconds() == 250
    assert event.completed.timings.load_duration.ToMilliseconds() == 125
    assert event.completed.timings.denoise_duration.ToMilliseconds() == 1500
    assert event.completed.timings.total_duration.ToMilliseconds() == 2000
    assert event.completed.batch == BatchInfo(
        batch_id="7", batch_image_count=8, request_image_count=2
    )
    assert event.completed.batch.request_image_count == 2
    assert event.completed.peak_device_memory_bytes == 10**10
    assert [(one.reason, one.field) for one in event.completed.warnings] == [
        ("PROMPT_TRUNCATED", "negative_prompt")
    ]


def test_pictures_of_another_size_are_told_with_it() -> None:
    (event,) = writer().write(
        JobCompleted(image_count=1, timings=JobTimings(), other_size_px=(512, 256))
    )
    (warning,) = event.completed.warnings
    assert (warning.reason, warning.field) == ("DIMENSION_NOT_KEPT", "width_px")
    assert "512x256 px" in warning.description


def test_a_checked_request_completes_without_images() -> None:
    (event,) = writer().write(Validated())
    assert event.WhichOneof("event") == "completed"
    assert event.completed.image_count == 0


def test_the_sequence_leaves_a_gap_for_events_that_were_dropped() -> None:
    writer = EventWriter(lambda: 0)
    step = JobProgress(stage=Stage.DENOISE, completed_step_count=1, total_step_count=9)
    numbers = [
        event.sequence
        for dropped_count in (0, 0, 5, 5)
        for event in writer.write(step, dropped_count=dropped_count)
    ]
    assert numbers == [0, 1, 7, 8]
