"""What a stream must carry for its images to be believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from darkroom.v1 import image_service_pb2
from darkroom_client import (
    Accepted,
    Completed,
    CorruptImage,
    Event,
    ImageReady,
    Preview,
    Progress,
    Queued,
    Stage,
)
from darkroom_client.assembly import EventAssembler, generation_of
from tests.integration.clients.scripted_server import (
    accepted,
    announce,
    chunk,
    completed,
    image,
    queued,
    step,
)

Message = image_service_pb2.GenerationEvent
CONTENT = b"0123456789"


def read(*messages: Message) -> list[Event]:
    assembler = EventAssembler("r-1")
    events = [event for message in messages if (event := assembler.feed(message)) is not None]
    assembler.finish()
    return events


def test_a_whole_stream_becomes_typed_events_in_its_order() -> None:
    preview = Message(
        preview=Message.Preview(
            image_index=0,
            completed_step_count=1,
            media_type="image/jpeg",
            content=b"j",
            width_px=1,
            height_px=1,
        )
    )
    events = read(
        accepted(), queued(3), step(1, 2), preview, *image(CONTENT, chunk_size=4), completed()
    )
    kinds = [Accepted, Queued, Progress, Preview, ImageReady, Completed]
    assert [type(event) for event in events] == kinds
    assert events[1] == Queued(3, model_loading=False)
    assert events[2] == Progress(Stage.DENOISE, 1, 2)


def test_an_image_is_put_together_from_its_chunks() -> None:
    generation = generation_of(read(accepted(), *image(CONTENT, chunk_size=3), completed()))
    (made,) = generation.images
    assert made.content == CONTENT
    assert made.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert (made.media_type, made.seed, made.image_index) == ("image/png", 7, 0)


def test_several_images_come_out_in_the_order_of_their_index() -> None:
    events = read(accepted(), *image(b"one", 1), *image(b"nil", 0), completed(2))
    assert [made.content for made in generation_of(events).images] == [b"nil", b"one"]


def test_the_result_tells_parameters_timings_and_ids() -> None:
    message = accepted(step_count=4, guidance_scale=2.5, scheduler="Euler")
    message.accepted.warnings.add(reason="ROUNDED", description="width 17 → 16", field="width_px")
    generation = generation_of(read(message, *image(CONTENT), completed()))
    assert generation.parameters.step_count == 4
    assert generation.parameters.seeds == (7,)
    assert generation.parameters.strength is None
    assert [warning.reason for warning in generation.warnings] == ["ROUNDED"]
    assert generation.timings.denoise_s == 1.5
    assert (generation.generation_id, generation.request_id) == ("g-1", "r-1")


def test_events_of_the_future_are_skipped() -> None:
    # Field 99 of the message: an event that this client does not know.
    unknown = Message.FromString(b"\x9a\x06\x00")
    assert unknown.WhichOneof("event") is None
    kinds = [type(e) for e in read(accepted(), unknown, *image(CONTENT), unknown, completed())]
    assert kinds == [Accepted, ImageReady, Completed]


def test_stages_of_the_future_are_unknown_stages() -> None:
    message = Message(progress=Message.Progress(stage=99))  # type: ignore[arg-type]
    assert read(accepted(), message, completed(0))[1] == Progress(Stage.UNKNOWN, 0, 0)


def test_a_withheld_image_has_no_bytes_and_says_so() -> None:
    filtered = Message.FINISH_REASON_CONTENT_FILTERED
    withheld = announce(b"", sha256=b"", finish_reason=filtered)
    (made,) = generation_of(read(accepted(), withheld, completed())).images
    assert made.content_filtered
    assert made.content == b""


def test_a_blackened_image_can_be_saved_and_says_so(tmp_path: Path) -> None:
    filtered = Message.FINISH_REASON_CONTENT_FILTERED
    messages = (announce(CONTENT, finish_reason=filtered), chunk(CONTENT))
    (made,) = generation_of(read(accepted(), *messages, completed())).images
    assert made.content_filtered
    assert made.save(tmp_path / "black.png").read_bytes() == CONTENT


def test_a_request_that_was_only_checked_has_no_images() -> None:
    assert generation_of(read(accepted(), completed(0))).images == ()


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        pytest.param(
            [announce(CONTENT), chunk(b"01234"), completed()],
            "has 5 of the 10 bytes",
            id="short-at-the-end",
        ),
        pytest.param(
            [announce(CONTENT), chunk(b"01234"), *image(b"x", 1), completed(2)],
            "has 5 of the 10 bytes",
            id="short-at-the-next-image",
        ),
        pytest.param([announce(CONTENT), completed()], "has 0 of the 10 bytes", id="no-bytes"),
        pytest.param(
            [announce(CONTENT), chunk(b"0123"), chunk(b"56789", 5), completed()],
            "missing: offset 5 instead of 4",
            id="chunk-missing",
        ),
        pytest.param(
            [announce(CONTENT), chunk(b"0123"), chunk(b"3456789", 3), completed()],
            "doubled: offset 3 instead of 4",
            id="chunks-overlap",
        ),
        pytest.param(
            [announce(CONTENT), chunk(b"0123456789!"), completed()],
            "longer than announced",
            id="long",
        ),
        pytest.param(
            [announce(CONTENT), chunk(b"0123456788"), completed()],
            "does not match its SHA-256",
            id="altered",
        ),
        pytest.param(
            [announce(CONTENT, sha256=b""), chunk(CONTENT), completed()],
            "does not match its SHA-256",
            id="no-digest",
        ),
        pytest.param(
            [chunk(CONTENT), completed()], "were not announced", id="bytes-before-the-image"
        ),
        pytest.param(
            [announce(CONTENT), chunk(CONTENT, index=1), completed()],
            "bytes of image 1 were not announced",
            id="bytes-of-another-image",
        ),
        pytest.param(
            [*image(CONTENT), chunk(b"more", 10), completed()],
            "were not announced",
            id="bytes-after-the-image",
        ),
        pytest.param([*image(CONTENT), *image(CONTENT), completed(2)], "twice", id="image-twice"),
        pytest.param(
            [*image(CONTENT), completed(2)], "1 images came instead of 2", id="image-missing"
        ),
        pytest.param([*image(CONTENT)], "ended early", id="no-end"),
        pytest.param(
            [*image(CONTENT), completed(), step(1, 2)], "after the end", id="event-after-the-end"
        ),
    ],
)
def test_a_stream_that_does_not_add_up_is_refused(messages: list[Message], complaint: str) -> None:
    with pytest.raises(CorruptImage, match=complaint) as caught:
        read(accepted(), *messages)
    assert caught.value.request_id == "r-1"


def test_a_stream_without_a_beginning_gives_no_result() -> None:
    with pytest.raises(CorruptImage, match="no beginning"):
        generation_of(read(*image(CONTENT), completed()))
