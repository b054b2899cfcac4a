"""A server in a process of its own: what its whole tree takes, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.peers.install import ROOT

#: It is taken to do nothing while it takes no more processor time, in parts of the clock's, than
#: this beyond what it takes idle; looked at so often, and waited for so long at most.
STILL_SHARE, LOOK_S, STILL_LIMIT_S = 0.08, 0.5, 300.0
#: How long it is looked at for what it takes idle.
IDLE_S = 3.0


class Tree:
    """A process and all that it has started; also those that left its group."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        #: Of processes that have ended meanwhile, the time last seen.
        self._cpu_s: dict[tuple[int, float], float] = {}
        #: Processor time that it takes doing nothing, in parts of the clock's.
        self.idle_share = 0.0

    def note_idle(self) -> None:
        """Looks at what it takes while nobody asks for anything."""
        before_s, began_s = self.cpu_s(), time.monotonic()
        time.sleep(IDLE_S)  # the stretch that is measured
        self.idle_share = (self.cpu_s() - before_s) / (time.monotonic() - began_s)

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [self._root, *self._root.children(recursive=True)]
        return []

    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        for one in self._processes():
            with contextlib.suppress(psutil.Error):
                times = one.cpu_times()
                self._cpu_s[one.pid, one.create_time()] = times.user + times.system
        return sum(self._cpu_s.values())

    def memory_bytes(self) -> int:
        """Memory of all, pages that several share counted once in all."""
        total = 0
        for one in self._processes():
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return total

    def quiet_cpu_s(self) -> float:
        """Waits until nothing is worked on any more; the processor time by then."""
        ends_s = time.monotonic() + STILL_LIMIT_S
        while (looked_s := time.monotonic()) < ends_s:
            before_s = self.cpu_s()
            time.sleep(LOOK_S)  # the stretch that is measured
            now_s = self.cpu_s()
            share = (now_s - before_s) / (time.monotonic() - looked_s)
            if share <= self.idle_share + STILL_SHARE:
                return now_s
        raise TimeoutError(f"It still worked after {STILL_LIMIT_S:g} s.")

    def end(self) -> None:
        """Kills all of them: some peers leave theirs behind when only the first is told."""
        found = self._processes()
        for one in found:
            with contextlib.suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(found, timeout=60)


def started(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """A process whose output goes to a file; `.pyc` files are kept, whatever is set here."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") as target:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=target,
            stderr=subprocess.STDOUT,
            env=kept | dict(environment),
            start_new_session=True,
        )


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Whoever is left of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
