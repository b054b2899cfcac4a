"""What requests can ask of a server that shares its steps, over a real channel."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from bench.serving import Server, connected, serving
from darkroom_client import Client, DeadlineExceeded
from darkroom_client.events import Accepted, Completed, Event, Preview, Progress, Queued

STEP_S = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "fake" / "1").mkdir(parents=True)
    (folder / "fake" / "config.pbtxt").write_text(
        f"backend: BACKEND_FAKE fake {{ step_s: {STEP_S} }}\n"
        "reproducibility: REPRODUCIBILITY_TOLERANCE limits { max_step_count: 500 }\n"
    )
    with serving(folder) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with connected(server) as made:
        yield made


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 32), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def test_generate_begins_with_the_image_it_is_given(client: Client) -> None:
    [made] = client.generate("anything", image=png(100), strength=0.5, seed=7, steps=4).images
    pixels = np.asarray(Image.open(io.BytesIO(made.content)))
    assert pixels.shape == (32, 64, 3)
    assert set(pixels.flat) == {100 + 7 + 4}


def test_previews_come_before_the_image(client: Client) -> None:
    events = list(client.generate_events("anything", steps=10, seed=50, preview_interval_steps=4))
    previews = [event for event in events if isinstance(event, Preview)]
    assert [preview.completed_step_count for preview in previews] == [4, 8]
    assert Image.open(io.BytesIO(previews[0].content)).format == "JPEG"


def test_a_request_may_be_stricter_than_its_model(client: Client) -> None:
    level = client.generate("anything", reproducibility="exact").parameters.fingerprint
    assert level.endswith("/exact")
    assert client.generate("anything").parameters.fingerprint.endswith("/tolerance")


def at_work(client: Client, steps: int) -> tuple[threading.Thread, list[Event]]:
    """A request that has begun and takes so many steps."""
    events: list[Event] = []
    begun = threading.Event()

    def run() -> None:
        for event in client.generate_events("anything", steps=steps):
            events.append(event)
            if isinstance(event, Progress) and event.completed_step_count:
                begun.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(300)
    return thread, events


def test_a_request_is_told_when_it_will_be_done(client: Client) -> None:
    thread, _ = at_work(client, 20)
    queued = [e for e in client.generate_events("anything", steps=20) if isinstance(e, Queued)]
    thread.join()
    # Between all steps shared and none.
    estimated_s = queued[0].estimated_s
    assert estimated_s is not None
    assert 0.9 * 20 * STEP_S < estimated_s < 2.5 * 20 * STEP_S


def test_a_deadline_that_cannot_be_met_is_refused_at_once(client: Client) -> None:
    thread, _ = at_work(client, 40)
    seen: list[Event] = []
    with pytest.raises(DeadlineExceeded, match="would take about"):
        seen.extend(client.generate_events("anything", steps=400, timeout=5.0))
    # Before anything was promised.
    assert not [event for event in seen if isinstance(event, Accepted)]
    thread.join()


def test_requests_that_share_steps_say_so(client: Client) -> None:
    thread, events = at_work(client, 20)
    client.generate("anything", steps=5)
    thread.join()
    assert isinstance(events[-1], Completed)
    batch = events[-1].batch
    assert batch is not None
    assert (batch.image_count, batch.request_image_count) == (2, 1)
