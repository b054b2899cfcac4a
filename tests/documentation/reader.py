"""Somebody who does what a page says, block by block, in a folder that looks like a fresh clone.

- `sh`, `python` and `js` are run. `make serve` and `darkroom serve` are started and left running,
  on free ports; in what follows the page's usual addresses are replaced by theirs.
- A block with a `title` is a file, and is written.
- `text` is what the block before it prints; `…` in it stands for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.serving import Server
from darkroom_client import Client, DarkroomError
from darkroom_client.health import Health
from tests.documentation.blocks import Block

REPOSITORY = Path(__file__).parents[2]
NODE_MODULES = REPOSITORY / ".compat" / "node" / "node_modules"
LIMIT_S = 400.0
READY_LIMIT_S = 300.0
#: Runs what imports Triton's client, which needs an environment of its own.
TRITON_PYTHON = REPOSITORY / ".compat" / "tritonclient" / "bin" / "python"
_SERVES = re.compile(r"(make|darkroom) serve\b")


def can_run_javascript() -> bool:
    """Whether Node and the packages that pages import are there."""
    return shutil.which("node") is not None and NODE_MODULES.is_dir()


def can_run(block: Block) -> bool:
    """Whether what `make compat-clients` installs is there, if the block needs it."""
    if block.language == "js":
        return can_run_javascript()
    return not needs_triton(block) or TRITON_PYTHON.exists()


def needs_triton(block: Block) -> bool:
    """Whether the block imports Triton's client."""
    return block.language == "python" and "import tritonclient" in block.text


class Reader:
    """Follows one page. Raises AssertionError where a page does not hold."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._printed = ""
        self._server: Server | None = None
        self._addresses: dict[str, str] = {}
        self._furnish()

    def _furnish(self) -> None:
        """Makes the folder look like the repository, with results kept apart."""
        for name in ("model_repo", "protos", "clients", "examples"):
            (self._folder / name).symlink_to(REPOSITORY / name)
        (self._folder / ".venv").symlink_to(sys.prefix)
        if NODE_MODULES.is_dir():
            (self._folder / "node_modules").symlink_to(NODE_MODULES)
        make = self._folder / ".path" / "make"
        make.parent.mkdir()
        make.write_text(f'#!/bin/sh\nexec {shutil.which("make")} -C "{REPOSITORY}" "$@"\n')
        make.chmod(0o755)

    def follow(self, block: Block) -> None:
        """Does what one block says."""
        if block.title:
            file = self._folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
            return
        text = self._addressed(block.text)
        match block.language:
            case "sh" if _SERVES.search(text):
                self._serve(block, text)
            case "sh":
                self._run(block, "bash", "-euo", "pipefail", "-c", text)
            case "python":
                python = TRITON_PYTHON if needs_triton(block) else sys.executable
                self._run(block, str(python), "-c", text)
            case "js":
                self._run(block, "node", "--input-type=module", "-e", text)
            case "text":
                self._compare(block, text)
            case other:
                raise AssertionError(f"{block}: {other or 'no language'} cannot be run")

    def stop(self) -> None:
        """Stops what was left running."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                self._server.signal_all(signal.SIGKILL)
            self._server.process.wait()

    def _environment(self) -> dict[str, str]:
        path = (self._folder / ".path", Path(sys.executable).parent, os.environ["PATH"])
        return {
            **os.environ,
            "PATH": os.pathsep.join(map(str, path)),
            "DARKROOM_GRPC_PORT": "0",
            "DARKROOM_HTTP_PORT": "0",
            "DARKROOM_LOG_FORMAT": "json",
            **({"DARKROOM_SERVER": self._server.address} if self._server else {}),
        }

    def _addressed(self, text: str) -> str:
        for usual, real in self._addresses.items():
            text = text.replace(usual, real)
        return text

    def _run(self, block: Block, *command: str) -> None:
        ran = subprocess.run(
            command,
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert ran.returncode == 0, f"{block}: exit {ran.returncode}: {ran.stdout}{ran.stderr}"
        self._printed = ran.stdout

    def _serve(self, block: Block, text: str) -> None:
        self.stop()
        process = subprocess.Popen(
            ("bash", "-c", f"exec {text.strip()}"),
            cwd=self._folder,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._server = Server(process)
        listening = self._server.until("listening")
        self._addresses = {
            "127.0.0.1:8001": f"127.0.0.1:{listening['grpc_port']}",
            "127.0.0.1:8000": f"127.0.0.1:{listening['http_port']}",
        }
        assert _serves(self._server.address), f"{block}: its models did not become ready"

    def _compare(self, block: Block, expected: str) -> None:
        pattern = re.escape(expected.strip()).replace("…", ".*?")
        found = self._printed.strip()
        assert re.fullmatch(pattern, found, re.DOTALL), f"{block}: this was printed:\n{found}"


def _serves(address: str) -> bool:
    ends_at_s = time.monotonic() + READY_LIMIT_S
    with Client(address) as client:
        while time.monotonic() < ends_at_s:
            with suppress(DarkroomError):
                if client.health() is Health.SERVING:
                    return True
            time.sleep(0.1)
    return False


@contextmanager
def reading(folder: Path) -> Iterator[Reader]:
    """A reader whose server is stopped at the end."""
    reader = Reader(folder)
    try:
        yield reader
    finally:
        reader.stop()
