"""A real redis-server on the loopback, for one test module."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

#: How often, in tenths of a second, it is asked whether it is up.
TRIES = 100


class RedisServer:
    """A process that can be stopped and started again with what it had."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None
        self._process = subprocess.Popen(
            [
                *(program, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always"),
            ],
            stdout=subprocess.DEVNULL,
        )
        retry = Retry(ConstantBackoff(0.1), TRIES)
        with Redis.from_url(self.url, retry=retry) as client:
            client.ping()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """The server, running; skips the test where there is none to run."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here; `make redis` installs one")
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
