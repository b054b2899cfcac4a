"""`python -m bench.under_attack`: what attacks cost a server, and those whom it serves meanwhile.

Each attack meets a fresh server of the fake model. Said of each: the most memory that the server
and its helpers took beyond what they began with, what of it stayed, and the longest that a good
request waited meanwhile. `--program` names the `darkroom` of another checkout, to compare two.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.attacks import ATTACKS, GIVE_UP_S, MIB, Target
from bench.serving import DARKROOM, Server, serving
from darkroom_client import Client

#: How often memory is looked at, and how long it may take to come back.
LOOK_S, SETTLE_S = 0.02, 20.0


@dataclass
class Watch:
    """What a server takes and how long good requests wait, seen from two threads."""

    server: Server
    key: str
    peak_bytes: int = 0
    waits_s: list[float] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def resident_bytes(self) -> int:
        """Of the server and every process of its group: workers, decoders, the fork server."""
        pages = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                pages += int(fields[21]) if int(fields[2]) == self.server.process.pid else 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def look(self) -> None:
        """Notes the memory until it is over."""
        while not self._over.wait(LOOK_S):
            self.peak_bytes = max(self.peak_bytes, self.resident_bytes())

    def ask(self) -> None:
        """Asks for one small image after another until it is over."""
        with Client(self.server.address, api_key=self.key or None) as client:
            while not self._over.is_set():
                begun_s = time.monotonic()
                try:
                    client.generate("x", seed=1, steps=1, width=64, height=64, timeout=GIVE_UP_S)
                except Exception as error:
                    print("   a good request failed:", str(error)[:100])
                    self.waits_s.append(float("inf"))
                    self._over.wait(1.0)
                else:
                    self.waits_s.append(time.monotonic() - begun_s)
                self._over.wait(LOOK_S)

    def end(self) -> None:
        """Stops both threads."""
        self._over.set()


#: Those that need a server with keys.
WITH_KEYS = {"messages_without_a_key", "messages_without_an_end"}
POLLED = ("--model-control", "poll", "--repository-poll", "0.5")


@contextmanager
def served(name: str, program: str) -> Iterator[Target]:
    """A fresh server of the fake model."""
    # As a shell starts it: what it raises it has to raise itself.
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "models"
        (root / "fake" / "1").mkdir(parents=True)
        (root / "fake" / "config.pbtxt").write_text(
            "backend: BACKEND_FAKE\nfake { step_s: 0.001 }\n"
        )
        flags, key = list(POLLED), ""
        if name in WITH_KEYS:
            file = str(Path(folder) / "keys.toml")
            command = [program, "keys", "create", "x", "--keys-file", file]
            made = subprocess.run(command, check=True, capture_output=True, text=True)
            key, flags = made.stdout.strip(), [*flags, "--keys-file", file]
        with serving(root, *flags, program=(program,)) as server:
            server.until("model", state="ready")
            yield Target(server, key)


def measure(name: str, program: str) -> None:
    """One attack: its line on the terminal."""
    with served(name, program) as target:
        # The attacker has descriptors enough.
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        watch = Watch(target.server, target.key)
        before_bytes = watch.resident_bytes()
        threads = [threading.Thread(target=one) for one in (watch.look, watch.ask)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        try:
            told = ATTACKS[name](target)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"[:200]
        until_s = time.monotonic() + SETTLE_S
        while time.monotonic() < until_s and watch.resident_bytes() - before_bytes > 32 * MIB:
            time.sleep(0.5)
        left_bytes = watch.resident_bytes() - before_bytes
        watch.end()
        for thread in threads:
            thread.join()
        peak = (watch.peak_bytes - before_bytes) / MIB
        longest_s = max(watch.waits_s, default=float("inf"))
        print(
            f"{name}: peak +{peak:.0f} MiB, left +{left_bytes / MIB:.0f} MiB, "
            f"longest wait of {len(watch.waits_s)} good requests {longest_s:.2f} s"
            + (f"; {told}" if told else ""),
            flush=True,
        )


def main() -> None:
    """Runs the attacks that are named, all by default."""
    parser = argparse.ArgumentParser(prog="bench.under_attack", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *ATTACKS], metavar="attack")
    parser.add_argument("--program", default=DARKROOM[0], help="the darkroom of another checkout")
    args = parser.parse_args()
    for name in args.names or ATTACKS:
        measure(name, args.program)


if __name__ == "__main__":
    main()
