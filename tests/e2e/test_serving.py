"""The whole service on the fake model: a real server process, a real channel, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from bench.serving import DARKROOM, Server, connected, serving
from darkroom_client import Client, DeadlineExceeded, Progress, Unavailable
from darkroom_client.errors import DarkroomError
from darkroom_client.events import Completed, Event
from darkroom_client.health import Health
from darkroom_client.models import ModelState


def fake_repository(folder: Path, *, step_s: float = 0.0, load_s: float = 0.0) -> Path:
    (folder / "fake" / "1").mkdir(parents=True)
    (folder / "fake" / "config.pbtxt").write_text(
        f"backend: BACKEND_FAKE\nfake {{ step_s: {step_s} load_s: {load_s} }}\n"
        "limits { max_step_count: 500 }\n"
    )
    return folder


def test_ports_answer_while_models_load_and_requests_wait_for_them(tmp_path: Path) -> None:
    with serving(fake_repository(tmp_path, load_s=3.0)) as server, Client(server.address) as client:
        assert client.health() is Health.NOT_SERVING
        assert client.health("darkroom.v1.ModelService") is Health.SERVING
        [picture] = client.generate("anything", seed=3).images
        assert picture.seed == 3
        assert client.health() is Health.SERVING


# Steps that take longer than progress is held back, so that every one of them is told.


def test_a_caller_that_hangs_up_stops_the_work_within_two_steps(tmp_path: Path) -> None:
    with serving(fake_repository(tmp_path, step_s=0.12)) as server, connected(server) as client:
        events = client.generate_events("anything", steps=400)
        for event in events:
            if isinstance(event, Progress) and event.completed_step_count >= 5:
                break
        events.close()
        stopped = server.until("job stopped")
        assert 5 <= stopped["completed_step_count"] <= event.completed_step_count + 2


def test_a_deadline_that_passes_stops_the_work_within_two_steps(tmp_path: Path) -> None:
    with serving(fake_repository(tmp_path, step_s=0.12)) as server, connected(server) as client:
        seen: list[Event] = []
        events = client.generate_events("anything", steps=400, timeout=1.5)
        with pytest.raises(DeadlineExceeded):
            seen.extend(events)
        told = max(one.completed_step_count for one in seen if isinstance(one, Progress))
        stopped = server.until("job stopped")
        assert 5 <= told <= stopped["completed_step_count"] <= told + 2


def test_a_killed_worker_is_replaced_and_health_tells_the_truth_meanwhile(tmp_path: Path) -> None:
    repository = fake_repository(tmp_path, step_s=0.02, load_s=1.0)
    with serving(repository) as server, connected(server) as client:
        undisturbed = client.generate("anything", steps=50, seed=9).images[0].content
        pictures: list[bytes] = []
        request = threading.Thread(
            target=lambda: pictures.append(
                client.generate("anything", steps=50, seed=9).images[0].content
            )
        )
        request.start()
        mark = len(server.log)
        os.kill(server.worker_pid(), signal.SIGKILL)
        server.until("worker died", after=mark)
        server.until("model", after=mark, state="unavailable")
        assert client.health() is Health.NOT_SERVING
        assert client.health("models/fake") is Health.NOT_SERVING
        assert client.health("darkroom.v1.ModelService") is Health.SERVING
        assert client.get_model("fake").state is ModelState.UNAVAILABLE
        server.until("model", after=mark, state="ready")
        assert client.health() is Health.SERVING
        request.join()
        assert pictures == [undisturbed]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["systemd", "ctrl-c"])
def test_a_signal_finishes_what_runs_and_refuses_the_rest(
    tmp_path: Path, number: signal.Signals
) -> None:
    with serving(fake_repository(tmp_path, step_s=0.02)) as server, connected(server) as client:
        events = client.generate_events("anything", steps=50)
        next(event for event in events if isinstance(event, Progress))
        server.signal_all(number)
        server.until("draining")
        with (
            Client(server.address, max_attempts=1) as another,
            pytest.raises(Unavailable),
        ):
            another.generate("anything")
        assert isinstance(list(events)[-1], Completed)
        assert server.process.wait(300) == 0


@pytest.mark.parametrize("flags", [("--exit-timeout", "0"), ()], ids=["timeout", "second-signal"])
def test_no_call_is_left_without_a_status(tmp_path: Path, flags: tuple[str, ...]) -> None:
    repository = fake_repository(tmp_path, step_s=0.05)
    with serving(repository, *flags) as server, connected(server) as client:
        events = client.generate_events("anything", steps=500)
        next(event for event in events if isinstance(event, Progress))
        server.process.send_signal(signal.SIGTERM)
        server.until("draining")
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(DarkroomError):
            list(events)
        assert server.process.wait(300) == 0


def half_a_call(server: Server) -> socket.socket:
    """A connection over which a body is promised, and not sent whole."""
    port = server.until("listening")["http_port"]
    connection = socket.create_connection(("127.0.0.1", port))
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
    connection.sendall(f'{head}{{"'.encode())
    return connection


def test_a_caller_that_stands_still_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with serving(fake_repository(tmp_path)) as server:
        server.until("model", state="ready")
        with half_a_call(server):
            # Answered after the half was read: the server is in the middle of the call.
            port = server.until("listening")["http_port"]
            assert httpx.get(f"http://127.0.0.1:{port}/v2/health/live").is_success
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(300) == 0
        assert "unhandled error" not in {one.get("event") for one in server.log}


def test_a_caller_that_leaves_in_the_middle_of_its_body_is_no_bug(tmp_path: Path) -> None:
    with serving(fake_repository(tmp_path)) as server:
        server.until("model", state="ready")
        half_a_call(server).close()
        server.until("http call", status=499)
        assert "unhandled error" not in {one.get("event") for one in server.log}


def test_a_signal_to_all_processes_also_ends_a_worker_that_still_loads(tmp_path: Path) -> None:
    # The fork server ends by it, the worker does not: it must not be waited for then.
    fake_repository(tmp_path / "models")
    (tmp_path / "models" / "fake").rename(tmp_path / "models" / "quick")
    with serving(fake_repository(tmp_path / "models", load_s=60.0)) as server:
        server.until("model", model="quick/1", state="ready")
        server.signal_all(signal.SIGTERM)
        assert server.process.wait(300) == 0


def test_what_lies_where_the_server_was_started_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = fake_repository(tmp_path / "models")
    for name in ("numpy", "pickle", "darkroom_server"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with serving(repository) as server, connected(server) as client:
        assert client.generate("anything", seed=3).images[0].seed == 3


def test_it_stops_in_order_when_nobody_reads_its_log(tmp_path: Path) -> None:
    command = [*DARKROOM, "serve", "--model-repository", str(fake_repository(tmp_path))]
    process = subprocess.Popen(
        [*command, "--grpc-port", "0", "--http-port", "0", "--log-format", "json"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        assert any('"worker ready"' in line for line in process.stderr)
        process.stderr.close()
        process.terminate()
        assert process.wait(timeout=300) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
