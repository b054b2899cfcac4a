"""Several Ray nodes on one machine, each with processes of its own, and a server that joins them.

Nodes are started by `ray start`, as on machines of their own, so that one can be killed whole.
Needs Ray: run it with `.venv-ray/bin/python`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

#: Only against a hang: a busy machine takes minutes.
START_TIMEOUT_S = 600.0
END_TIMEOUT_S = 150.0
STORE_BYTES = 100 << 20
#: What `ray start` says once a node has joined.
STARTED = "Ray runtime started"
#: Times that a node is started until one is up.
START_COUNT = 5

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_raylet_start_wait_time_s": "40",
    "RAY_gcs_server_request_timeout_seconds": "120",
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "",
}


@dataclass(slots=True)
class Node:
    """One node: the process that keeps it, and all below it."""

    process: subprocess.Popen[bytes]
    marker: str
    node_id: str

    def pids(self) -> list[int]:
        """Its processes, which its environment is known by."""
        return [one.pid for one in psutil.process_iter() if _has(one, self.marker)]

    def replica_pids(self) -> list[int]:
        """Those that hold a model, without their workers."""
        return [one for one in self.pids() if "ServeReplica" in _line(one)]

    def kill(self) -> None:
        """Everything at once, as when a machine goes."""
        for pid in self.pids():
            _signal(pid, signal.SIGKILL)
        self.process.wait()


@dataclass(slots=True)
class Nodes:
    """A head without room for replicas, and nodes with it."""

    folder: Path
    port: int
    head: Node
    nodes: list[Node] = field(default_factory=list)
    started_count: int = 0

    @property
    def address(self) -> str:
        """Where servers join."""
        return f"127.0.0.1:{self.port}"

    def add(self, cpu_count: int = 1, *, wrapper: Sequence[str] = ()) -> Node:
        """Another node, in what `wrapper` makes of it."""
        command = [*wrapper, ray_command(), "start", f"--address={self.address}", "--block"]
        command += [f"--num-cpus={cpu_count}"]
        # One after the other: nodes that start together may take the same names of sockets.
        for _ in range(START_COUNT):
            self.started_count += 1
            number = self.started_count
            log = self.folder / f"node-{number}.log"
            node = _started([*command, *_node_options()], log, self.port, number)
            if _has_started(log, node):
                self.nodes.append(node)
                return node
        raise RuntimeError(f"no node started: {self.folder}")


def ray_command() -> str:
    """Of the environment that this runs in."""
    return str(Path(sys.executable).with_name("ray"))


def free_ports(count: int) -> list[int]:
    """Ports that nothing listened on a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def cluster(cpu_counts: Sequence[int]) -> Iterator[Nodes]:
    """A head, and nodes with so many processors each; all is gone after it."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-ray-", dir="/tmp"))
    nodes = _head(folder)
    try:
        for count in cpu_counts:
            nodes.add(count)
        yield nodes
    finally:
        for node in (*nodes.nodes, nodes.head):
            node.kill()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server(
    repository: str,
    *,
    address: str | None,
    settings: Mapping[str, str] | None = None,
    module: str = "darkroom_server.cli.main",
    log: Path | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    """`darkroom serve`, on Ray where there is an address: process, gRPC address, HTTP address."""
    grpc_port, http_port = free_ports(2)
    command = [sys.executable, "-m", module, "serve", "--model-repository", repository]
    command += ["--grpc-port", str(grpc_port), "--http-port", str(http_port)]
    if address is not None:
        command += ["--on", "ray", "--address", address]
    known = {f"DARKROOM_{name.upper()}": value for name, value in (settings or {}).items()}
    where = log or Path(tempfile.mkstemp(prefix="darkroom-server-", suffix=".log")[1])
    with where.open("ab") as out:
        process = subprocess.Popen(command, env=_environment() | known, stdout=out, stderr=out)
    try:
        yield process, f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_model(repository: Path, config: str, *, name: str = "fake", version: int = 1) -> None:
    """A model of the fake backend."""
    (repository / name / str(version)).mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(config)


def told(name: str, **figures: object) -> None:
    """A line of a result."""
    print(json.dumps({"what": name, **figures}), flush=True)


def _node_options() -> list[str]:
    # Ports that are not given are waited for, and on a busy machine not for long enough.
    given = (
        *("metrics-export-port", "runtime-env-agent-port"),
        *("dashboard-agent-listen-port", "dashboard-agent-grpc-port"),
    )
    return [
        *(f"--{name}={port}" for name, port in zip(given, free_ports(len(given)), strict=True)),
        "--node-ip-address=127.0.0.1",
        "--disable-usage-stats",
        f"--object-store-memory={STORE_BYTES}",
    ]


def _started(command: Sequence[str], log: Path, port: int, number: int) -> Node:
    marker, node_id = f"DARKROOM_BENCH_NODE={port}-{number}", f"{port:028x}{number:028x}"
    name, _, value = marker.partition("=")
    known = {name: value, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id}
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=_environment() | known, stdout=out, stderr=out)
    return Node(process, marker, node_id)


def _environment() -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT}


def _has(process: psutil.Process, marker: str) -> bool:
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as kept:
            return marker.encode() in kept.read().split(b"\0")
    except OSError:
        return False


def _line(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _head(folder: Path) -> Nodes:
    for number in range(START_COUNT):
        (port,) = free_ports(1)
        log = folder / f"head-{number}.log"
        command = [ray_command(), "start", "--head", f"--port={port}", "--num-cpus=0", "--block"]
        command += [f"--temp-dir={folder}/r{number}", "--include-dashboard=false"]
        head = _started([*command, *_node_options()], log, port, 0)
        if _has_started(log, head):
            return Nodes(folder, port, head)
    raise RuntimeError(f"no head started: {folder}")


def _has_started(log: Path, node: Node) -> bool:
    """Whether it came up; what did not is gone. Ray gives up after 15 s on a busy machine."""
    end_s = time.monotonic() + START_TIMEOUT_S
    while STARTED not in log.read_text(errors="replace"):
        if node.process.poll() is not None or time.monotonic() > end_s:
            node.kill()
            return False
        time.sleep(0.2)  # the log tells nobody that it grew
    return True
