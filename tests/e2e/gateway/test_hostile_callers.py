"""Callers who say nothing or far too much, to a real server: the others are served meanwhile."""

from __future__ import annotations

import errno
import gzip
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from bench.serving import DARKROOM, Server, connected, serving
from darkroom_client.health import Health

#: Fewer than the callers here open, and enough for the server.
OPEN_FILES_COUNT = 300
#: Sets the limit and becomes the server.
LIMITED = (
    sys.executable,
    "-c",
    "import os, resource, sys\n"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, (100, {OPEN_FILES_COUNT}))\n"
    "os.execv(sys.argv[1], sys.argv[1:])",
    *DARKROOM,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("models")
    (repository / "m" / "1").mkdir(parents=True)
    (repository / "m" / "config.pbtxt").write_text("backend: BACKEND_FAKE")
    with serving(repository, program=LIMITED) as server:
        server.until("model", state="ready")
        yield server


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    port = server.until("listening")["http_port"]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        yield client


def makes_an_image(http: httpx.Client) -> bool:
    answer = http.post(
        "/v1/images/generations", json={"prompt": "a", "response_format": "b64_json"}
    )
    return answer.status_code == 200


def test_silent_callers_take_nobodys_place(server: Server, http: httpx.Client) -> None:
    with ExitStack() as stack:
        for _ in range(2 * OPEN_FILES_COUNT):
            stack.enter_context(socket.create_connection((http.base_url.host, http.base_url.port)))
        assert makes_an_image(http)
        after = len(server.log)
        with connected(server) as client:
            assert client.generate("a", seed=3).images[0].seed == 3
        os.kill(server.worker_pid(), signal.SIGKILL)
        server.until("worker ready", after=after)
        assert makes_an_image(http)


def test_a_worker_that_dies_while_there_are_no_files_is_started_once_there_are(
    server: Server, http: httpx.Client
) -> None:
    assert makes_an_image(http)
    grpc_port, after = server.until("listening")["grpc_port"], len(server.log)
    files = Path(f"/proc/{server.process.pid}/fd")
    with ExitStack() as stack:
        # Over gRPC, whose connections nobody counts.
        while len(list(files.iterdir())) < OPEN_FILES_COUNT - 2:
            stack.enter_context(socket.create_connection(("127.0.0.1", grpc_port)))
        os.kill(server.worker_pid(), signal.SIGKILL)
        problems = []
        # One more than the deaths that a version may have.
        for _ in range(6):
            entry = server.until("worker not started", after=after)
            after = server.log.index(entry, after) + 1
            problems.append(entry["problem"])
        assert os.strerror(errno.EMFILE) in problems
    server.until("worker ready", after=after)
    with connected(server) as client:
        assert client.generate("a", seed=3).images[0].seed == 3
        assert client.health() is Health.SERVING


BOMBS = {
    "json": (
        "/v1/images/generations",
        b'{"a":[' + b"[]," * (4 << 20) + b"[]]}",
        {"content-type": "application/json"},
        "more than 100000 values",
    ),
    "gzip": (
        "/darkroom.v1.ModelService/ListModels",
        gzip.compress(bytes(95 << 20)),
        {"content-type": "application/json", "content-encoding": "gzip"},
        "when it is unpacked",
    ),
    "form": (
        "/v1/images/edits",
        b"--x\r\n" + b"a:b\r\n" * (2 << 20),
        {"content-type": "multipart/form-data; boundary=x"},
        "no multipart form",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_body_takes_no_large_memory(server: Server, http: httpx.Client, name: str) -> None:
    path, body, headers, told = BOMBS[name]
    assert makes_an_image(http)
    before_kib = _peak_kib(server)
    answer = http.post(path, content=body, headers=headers)
    assert 400 <= answer.status_code < 500
    assert told in answer.text
    assert _peak_kib(server) - before_kib < 64 << 10
    assert makes_an_image(http)


def _peak_kib(server: Server) -> int:
    """Most memory that the server has had, in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
