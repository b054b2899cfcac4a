"""A real server process, for tests and measurements: started, watched, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom_client import Client

WAIT_S = 600.0
DARKROOM = (str(Path(sys.executable).with_name("darkroom")),)


class Server:
    """`darkroom serve` in a process of its own, its log read line by line in the background."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []
        self._grown = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"event": line.rstrip()}
            with self._grown:
                self.log.append(entry)
                self._grown.notify_all()
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    @property
    def address(self) -> str:
        """Where gRPC listens."""
        return f"127.0.0.1:{self.until('listening')['grpc_port']}"

    def until(self, event: str, *, after: int = 0, **values: Any) -> dict[str, Any]:
        """The first log entry from index `after` on with these values; waits for it."""

        def found() -> dict[str, Any] | None:
            wanted = {"event": event} | values
            return next((e for e in self.log[after:] if wanted.items() <= e.items()), None)

        with self._grown:
            self._grown.wait_for(lambda: found() or self._ended, WAIT_S)
            entry = found()
        assert entry is not None, f"no {event!r} {values} in the log: {self.log[-8:]}"
        return entry

    def until_ready(self, *models: str) -> None:
        """Waits until a version of each of these models serves."""

        def ready() -> set[str]:
            entries = [e for e in self.log if e.get("event") == "model" and e["state"] == "ready"]
            return {str(entry["model"]).partition("/")[0] for entry in entries}

        with self._grown:
            self._grown.wait_for(lambda: set(models) <= ready() or self._ended, WAIT_S)
            missing = set(models) - ready()
        assert not missing, f"not ready: {sorted(missing)}; the log: {self.log[-8:]}"

    def worker_pid(self) -> int:
        """Process id of the worker that was ready last."""
        return [entry["pid"] for entry in self.log if entry.get("event") == "worker ready"][-1]

    def signal_all(self, number: int) -> None:
        """Signals the server and all its workers, as a terminal or systemd does."""
        os.killpg(self.process.pid, number)


@contextmanager
def serving(
    repository: Path | str, *flags: str, program: Sequence[str] = DARKROOM
) -> Iterator[Server]:
    """A server on free ports; its models may still be loading."""
    command = [
        *(*program, "serve"),
        *("--model-repository", str(repository), "--grpc-port", "0", "--http-port", "0"),
        *("--log-format", "json", *flags),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield Server(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def connected(server: Server) -> Iterator[Client]:
    """A client of the server, once its models are ready."""
    server.until("model", state="ready")
    with Client(server.address) as client:
        yield client
