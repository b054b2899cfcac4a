from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom_server.domain.errors import GenerationFailed, ResultsUnread
from darkroom_server.domain.jobs import (
    ImageFormat,
    JobCompleted,
    JobEvent,
    JobImage,
    JobPreview,
    JobProgress,
    JobQueued,
    JobTimings,
    Stage,
)
from darkroom_server.engine.stream import MAX_WAITING_DROPPABLE, JobStream
from darkroom_server.engine.undelivered import Undelivered


def progress(count: int) -> JobProgress:
    return JobProgress(stage=Stage.DENOISE, completed_step_count=count, total_step_count=99)


def preview(index: int, count: int = 1) -> JobPreview:
    return JobPreview(
        image_index=index, completed_step_count=count, content=b"", width_px=1, height_px=1
    )


def image(index: int = 0) -> JobImage:
    return JobImage(
        image_index=index,
        format=ImageFormat.PNG,
        width_px=1,
        height_px=1,
        seed=0,
        content=b"",
        sha256=b"",
    )


COMPLETED = JobCompleted(image_count=1, timings=JobTimings())


async def read(stream: JobStream) -> list[JobEvent]:
    return [event async for event in stream]


@pytest.mark.parametrize(
    ("put", "seen"),
    [
        pytest.param(
            [JobQueued(1), progress(1), image(), COMPLETED],
            [JobQueued(1), progress(1), image(), COMPLETED],
            id="in-order",
        ),
        pytest.param(
            [progress(1), progress(2), JobQueued(0), progress(1), progress(2), progress(3)],
            [progress(1), progress(2), progress(3)],
            id="run-again-repeats-nothing",
        ),
        pytest.param([image(0), image(0), image(1)], [image(0), image(1)], id="each-image-once"),
        pytest.param(
            [progress(1), image(0), progress(2)],
            [progress(1), image(0), progress(2)],
            id="images-come-when-they-are-made",
        ),
        pytest.param(
            [preview(0), image(0), preview(0, 2), preview(1)],
            [preview(0), image(0), preview(1)],
            id="no-preview-of-what-is-made",
        ),
        pytest.param(
            [preview(0), preview(0, 2), preview(0), preview(0, 2), preview(0, 3)],
            [preview(0), preview(0, 2), preview(0, 3)],
            id="run-again-repeats-no-preview",
        ),
        pytest.param([COMPLETED, progress(1), image()], [COMPLETED], id="nothing-after-the-end"),
    ],
)
async def test_events_keep_the_order_callers_rely_on(
    put: list[JobEvent], seen: list[JobEvent]
) -> None:
    stream = JobStream()
    for event in put:
        stream.put(event)
    if COMPLETED not in put:
        stream.put(COMPLETED)
        seen = [*seen, COMPLETED]
    assert await read(stream) == seen


async def test_a_slow_reader_loses_old_progress_and_no_image() -> None:
    stream = JobStream()
    for count in range(1, 100):
        stream.put(progress(count))
    stream.put(image())
    stream.put(COMPLETED)
    events = await read(stream)
    kept = [e.completed_step_count for e in events if isinstance(e, JobProgress)]
    assert kept == list(range(100 - MAX_WAITING_DROPPABLE, 100))
    assert events[-2:] == [image(), COMPLETED]
    assert stream.dropped_count == 99 - MAX_WAITING_DROPPABLE


async def test_a_failure_comes_after_what_was_put_before() -> None:
    stream = JobStream()
    stream.put(progress(1))
    stream.fail(GenerationFailed("first"))
    stream.fail(GenerationFailed("second"))
    events = aiter(stream)
    assert await anext(events) == progress(1)
    with pytest.raises(GenerationFailed, match="first"):
        await anext(events)


def large(index: int) -> JobImage:
    return replace(image(index), content=bytes(10))


async def test_a_reader_that_leaves_too_much_is_given_up_and_its_job_ends() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=25)
    stream, ended = JobStream(), []
    stream.bound(undelivered, lambda: ended.append(True))
    for index in range(3):
        stream.put(large(index))
    stream.put(COMPLETED)
    assert ended == [True]
    assert undelivered.total_bytes == 0
    with pytest.raises(ResultsUnread):
        await read(stream)


async def test_what_is_being_read_counts_until_the_next_is_asked_for() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=25)
    stream = JobStream()
    stream.bound(undelivered, lambda: None)
    stream.put(large(0))
    stream.put(large(1))
    events = aiter(stream)
    await anext(events)
    assert undelivered.total_bytes == 20
    await anext(events)
    assert undelivered.total_bytes == 10
    stream.close()
    assert undelivered.total_bytes == 0


async def test_dropped_previews_do_not_count() -> None:
    undelivered = Undelivered(max_bytes=1000, max_call_bytes=500)
    stream = JobStream()
    stream.bound(undelivered, lambda: None)
    for count in range(1, MAX_WAITING_DROPPABLE + 5):
        stream.put(replace(preview(0, count), content=bytes(3)))
    assert undelivered.total_bytes == 3 * MAX_WAITING_DROPPABLE


async def test_what_is_collected_counts_until_the_stream_is_closed() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=50)
    stream = JobStream()
    stream.bound(undelivered, lambda: None, is_collected=True)
    stream.put(large(0))
    stream.put(preview(1, 1))
    stream.put(large(2))
    stream.put(COMPLETED)
    assert len(await read(stream)) == 4
    assert undelivered.total_bytes == 20
    stream.close()
    assert undelivered.total_bytes == 0


async def test_more_than_one_call_may_collect_ends_it_by_name() -> None:
    undelivered = Undelivered(max_bytes=100, max_call_bytes=25)
    stream = JobStream()
    stream.bound(undelivered, lambda: None, is_collected=True)
    events = aiter(stream)
    for index in range(2):
        stream.put(large(index))
        await anext(events)
    stream.put(large(2))
    with pytest.raises(ResultsUnread, match="fewer images"):
        await anext(events)
