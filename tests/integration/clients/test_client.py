"""The blocking client over a real channel."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from darkroom.v1 import image_service_pb2, model_service_pb2
from darkroom_client import (
    Accepted,
    Cancelled,
    Client,
    CorruptImage,
    DeadlineExceeded,
    Event,
    Health,
    InvalidRequest,
    ModelNotFound,
    ModelState,
    QueueFull,
    RetryableError,
    ServerError,
    Task,
    Unavailable,
)
from tests.integration.clients.scripted_server import (
    ScriptedServer,
    accepted,
    announce,
    chunk,
    completed,
    error_info,
    fails,
    image,
    queued,
    says,
    step,
)

GOOD = says(accepted(), *image(b"picture"), completed())
BUSY = fails(grpc.StatusCode.UNAVAILABLE, "no room", error_info("QUEUE_FULL"), pushback_ms=1)


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(server.address, timeout=300) as client:
        yield client


def test_generate_gives_images_and_tells_its_progress(
    server: ScriptedServer, client: Client
) -> None:
    server.images.scripts = [says(accepted(), queued(1), step(1, 1), *image(b"a"), completed())]
    seen: list[Event] = []
    generation = client.generate("a cat", seed=7, on_progress=seen.append)
    assert [made.content for made in generation.images] == [b"a"]
    assert len(seen) == 5
    (request,) = server.images.requests
    assert (request.prompt, request.seed) == ("a cat", 7)


def test_an_image_beyond_the_default_message_limit_arrives(
    server: ScriptedServer, client: Client
) -> None:
    content = os.urandom(6 * 1024 * 1024)
    server.images.scripts = [says(accepted(), *image(content), completed())]
    assert client.generate("a cat").images[0].content == content


def test_an_image_saves_to_a_file(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    server.images.scripts = [GOOD]
    path = client.generate("a cat").images[0].save(tmp_path / "out.png")
    assert path.read_bytes() == b"picture"


def test_fill_sends_image_and_mask(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    server.images.scripts = [GOOD]
    (tmp_path / "in.png").write_bytes(b"image")
    assert client.fill(tmp_path / "in.png", b"mask", "a star", strength=0.5).images
    (request,) = server.images.requests
    assert isinstance(request, image_service_pb2.FillRequest)
    assert (request.image.content, request.mask.content) == (b"image", b"mask")
    assert request.strength == 0.5


def test_every_call_has_an_id_which_the_result_tells(
    server: ScriptedServer, client: Client
) -> None:
    server.images.scripts = [GOOD, GOOD]
    first = client.generate("a cat")
    named = client.generate("a cat", request_id="mine")
    sent = [metadata["x-request-id"] for metadata in server.images.metadata]
    assert sent == [first.request_id, "mine"]
    assert named.request_id == "mine"


def test_the_api_key_rides_on_every_call(server: ScriptedServer) -> None:
    server.images.scripts = [GOOD]
    with Client(server.address, api_key="t-1") as client:
        client.generate("a cat")
    assert server.images.metadata[0]["authorization"] == "Bearer t-1"


# Retrying


def test_unavailable_twice_and_then_well_is_well(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [BUSY, BUSY, GOOD]
    assert client.generate("a cat").images[0].content == b"picture"
    assert len(server.images.requests) == 3


def test_a_large_fill_is_tried_again_too(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [BUSY, BUSY, GOOD]
    content = os.urandom(2 * 1024 * 1024)
    assert client.fill(content, b"mask", "a star").images
    assert [len(request.image.content) for request in server.images.requests] == [2**21] * 3


def test_after_the_fourth_try_the_error_is_told(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [BUSY] * 5
    with pytest.raises(QueueFull, match="no room"):
        client.generate("a cat")
    assert len(server.images.requests) == 4


def test_the_server_can_forbid_another_try(server: ScriptedServer, client: Client) -> None:
    never = fails(grpc.StatusCode.UNAVAILABLE, "no", error_info("DRAINING"), pushback_ms=-1)
    server.images.scripts = [never, GOOD]
    with pytest.raises(Unavailable):
        client.generate("a cat")
    assert len(server.images.requests) == 1


def test_retrying_can_be_turned_off(server: ScriptedServer) -> None:
    server.images.scripts = [BUSY, GOOD]
    with Client(server.address, max_attempts=1) as client, pytest.raises(QueueFull):
        client.generate("a cat")
    assert len(server.images.requests) == 1


def test_what_failed_after_it_began_is_not_tried_again(
    server: ScriptedServer, client: Client
) -> None:
    cut = fails(grpc.StatusCode.UNAVAILABLE, "stopping", after=(accepted(),))
    server.images.scripts = [cut, GOOD]
    with pytest.raises(Unavailable):
        client.generate("a cat")
    assert len(server.images.requests) == 1


# Errors


def test_details_of_a_status_reach_the_error(server: ScriptedServer, client: Client) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="step_count", description="must be 1 to 500")
    info = error_info("INVALID_PARAMETER")
    server.images.scripts = [fails(grpc.StatusCode.INVALID_ARGUMENT, "bad", info, bad)]
    with pytest.raises(InvalidRequest, match="step_count: must be 1 to 500") as caught:
        client.generate("a cat", steps=501)
    assert caught.value.reason == "INVALID_PARAMETER"
    assert caught.value.request_id == server.images.metadata[0]["x-request-id"]


def test_advice_to_wait_reaches_the_error(server: ScriptedServer, client: Client) -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    info = error_info("RATE_LIMITED")
    server.images.scripts = [fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough", info, retry)]
    with pytest.raises(RetryableError) as caught:
        client.generate("a cat")
    assert caught.value.retry_after_s == 1.5


def test_an_error_in_the_middle_ends_the_stream(server: ScriptedServer, client: Client) -> None:
    named = error_details_pb2.RequestInfo(request_id="r-9")
    info = error_info("INTERNAL")
    after = (accepted(), step(1, 9))
    server.images.scripts = [fails(grpc.StatusCode.INTERNAL, "broken", info, named, after=after)]
    with pytest.raises(ServerError, match=r"broken \(request r-9\)"):
        client.generate("a cat")


def test_bytes_that_do_not_add_up_are_an_error(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [says(accepted(), announce(b"abcd"), chunk(b"abXd"), completed())]
    with pytest.raises(CorruptImage, match="SHA-256"):
        client.generate("a cat")


def test_a_stream_without_an_end_is_an_error(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [says(accepted(), *image(b"picture"))]
    with pytest.raises(CorruptImage, match="ended early"):
        client.generate("a cat")


def test_a_timeout_is_an_error_and_reaches_the_server(
    server: ScriptedServer, client: Client
) -> None:
    server.images.scripts = [server.images.waits(accepted())]
    with pytest.raises(DeadlineExceeded):
        client.generate("a cat", timeout=0.3)
    assert server.images.cancelled.wait(300)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with Client("127.0.0.1:1", max_attempts=1) as client, pytest.raises(Unavailable) as caught:
        client.generate("a cat")
    assert "127.0.0.1:1" in str(caught.value)


def test_with_wait_for_ready_a_call_waits_for_the_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        Client(address, wait_for_ready=True, max_attempts=1) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.generate("a cat", timeout=0.3)


# Cancelling


def test_leaving_the_loop_cancels_the_call(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [server.images.waits(accepted(), queued(1))]
    for event in client.generate_events("a cat"):
        assert isinstance(event, Accepted)
        break
    assert server.images.cancelled.wait(300)


def test_closing_the_events_cancels_the_call(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [server.images.waits(accepted(), queued(1))]
    events = client.generate_events("a cat")
    next(events)
    events.close()
    assert server.images.cancelled.wait(300)


def test_an_error_in_the_callback_cancels_the_call(server: ScriptedServer, client: Client) -> None:
    server.images.scripts = [server.images.waits(accepted(), queued(1))]

    def interrupt(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.generate("a cat", on_progress=interrupt)
    assert server.images.cancelled.wait(300)


def test_closing_the_client_ends_its_calls(server: ScriptedServer) -> None:
    server.images.scripts = [server.images.waits(accepted())]
    client = Client(server.address)
    events = client.generate_events("a cat")
    next(events)
    closing = threading.Timer(0.1, client.close)
    closing.start()
    with pytest.raises(Cancelled):
        next(events)
    closing.join()
    assert server.images.cancelled.wait(300)


# Models and health


def test_models_come_from_every_page(server: ScriptedServer, client: Client) -> None:
    server.models.models = [
        model_service_pb2.Model(
            name="models/a",
            tasks=[model_service_pb2.Model.TASK_TEXT_TO_IMAGE, 99],  # type: ignore[list-item]
            state=model_service_pb2.Model.STATE_READY,
            default_version=2,
            versions=[model_service_pb2.ModelVersion(version=2), {"version": 1}],  # type: ignore[list-item]
        ),
        model_service_pb2.Model(name="models/b"),
    ]
    first, second = client.list_models()
    assert (first.name, second.name) == ("models/a", "models/b")
    assert first.tasks == (Task.TEXT_TO_IMAGE, Task.UNKNOWN)
    assert first.state is ModelState.READY
    assert [version.version for version in first.versions] == [2, 1]
    assert second.default_version is None
    assert client.get_model("models/a") == first


def test_a_model_that_is_not_there_is_an_error(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="no model 'x'"):
        client.get_model("x")


def test_health_is_what_the_server_says(client: Client) -> None:
    assert client.health() is Health.SERVING
    assert client.health("darkroom.v1.ImageService") is Health.NOT_SERVING
