"""Everything that is compared, behind one call: Darkroom over gRPC, the peers over their HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from bench.load import options, repository_with, request
from bench.peers.grouped import Asked
from bench.peers.install import PACKAGES, ROOT, python_of
from bench.peers.processes import Tree, end_group, free_port, started
from bench.pipelines import PROMPT
from bench.serving import connected, serving
from bench.setup import prove
from bench.workloads import Arrival
from darkroom_client import AsyncClient, DarkroomError, ImageReady, Preview

START_LIMIT_S, TRY_AGAIN_S = 240.0, 0.2


class NotMade(Exception):
    """A request that was turned away, failed or late."""


class Caller(Protocol):
    """One open-loop generator's connections to a system."""

    async def ask(self, one: Arrival, timeout_s: float) -> bytes:
        """The PNG. Raises NotMade; the caller hangs up when the time is over or it is cancelled."""
        ...

    async def first_picture(self, one: Arrival, timeout_s: float) -> float:
        """When the first preview or image was there, by `time.perf_counter`. Raises NotMade."""
        ...


Calling = Callable[[], AbstractAsyncContextManager[Caller]]


@dataclass(frozen=True, slots=True)
class Batches:
    """How a peer batches; Darkroom has nothing to tune."""

    max_images: int
    max_delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A server that runs."""

    name: str
    cold_start_s: float
    tree: Tree
    calling: Calling


@dataclass(frozen=True, slots=True)
class _OverGrpc:
    client: AsyncClient

    async def ask(self, one: Arrival, timeout_s: float) -> bytes:
        try:
            return await request(self.client, one, timeout_s)
        except DarkroomError as error:
            raise NotMade(str(error)) from error

    async def first_picture(self, one: Arrival, timeout_s: float) -> float:
        seen_s: float | None = None
        try:
            async for event in self.client.generate_events(
                PROMPT, timeout=timeout_s, preview_interval_steps=1, **options(one)
            ):
                if isinstance(event, Preview | ImageReady) and seen_s is None:
                    seen_s = time.perf_counter()
        except DarkroomError as error:
            raise NotMade(str(error)) from error
        assert seen_s is not None
        return seen_s


@dataclass(frozen=True, slots=True)
class _OverHttp:
    session: aiohttp.ClientSession
    url: str
    body: Callable[[Asked], object]
    picture: Callable[[bytes, aiohttp.ClientResponse], bytes]

    async def ask(self, one: Arrival, timeout_s: float) -> bytes:
        asked = {
            "prompt": PROMPT,
            "steps": one.step_count,
            "guidance_scale": one.guidance_scale,
            "size_px": one.size_px,
            "scheduler": one.scheduler,
            "seed": one.index,
        }
        timeout = aiohttp.ClientTimeout(total=max(1e-3, timeout_s))
        try:
            posting = self.session.post(self.url, json=self.body(asked), timeout=timeout)
            async with posting as answer:
                content = await answer.read()
                if answer.status != 200:
                    raise NotMade(f"{answer.status} {content[:200]!r}")
                return self.picture(content, answer)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotMade(repr(error)) from error

    async def first_picture(self, one: Arrival, timeout_s: float) -> float:
        """There are no previews: the picture itself."""
        await self.ask(one, timeout_s)
        return time.perf_counter()


def _as_it_is(asked: Asked) -> object:
    return asked


def _whole(content: bytes, _: aiohttp.ClientResponse) -> bytes:
    return content


def _list_of_one(asked: Asked) -> object:
    return {"asked": [asked]}


def _from_base64(content: bytes, _: aiohttp.ClientResponse) -> bytes:
    return base64.b64decode(json.loads(content)[0])


def _inference(asked: Asked) -> object:
    tensor = {"name": "asked", "datatype": "BYTES", "shape": [1, 1], "data": [json.dumps(asked)]}
    return {"inputs": [tensor], "outputs": [{"name": "png", "parameters": {"binary_data": True}}]}


def _binary_tensor(content: bytes, answer: aiohttp.ClientResponse) -> bytes:
    """What follows the JSON and four bytes with the length."""
    return content[int(answer.headers["Inference-Header-Content-Length"]) + 4 :]


@dataclass(frozen=True, slots=True)
class Peer:
    """How a peer is started, and spoken to."""

    module: str
    path: str = "/generate"
    body: Callable[[Asked], object] = _as_it_is
    picture: Callable[[bytes, aiohttp.ClientResponse], bytes] = _whole
    #: A tool of its environment that starts the module; it is run itself where there is none.
    tool: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


PEERS = {
    "fastapi": Peer("fastapi_loop"),
    "litserve": Peer("litserve_server"),
    "bentoml": Peer(
        "bentoml_server",
        body=_list_of_one,
        picture=_from_base64,
        tool=("bentoml", "serve", "bench.peers.bentoml_server:Pictures", "--host", "127.0.0.1"),
        environment=(("BENTOML_DO_NOT_TRACK", "True"),),
    ),
    "ray": Peer("ray_server", environment=(("RAY_USAGE_STATS_ENABLED", "0"),)),
    "triton": Peer(
        "triton_server",
        path="/v2/models/pictures/infer",
        body=_inference,
        picture=_binary_tensor,
    ),
}
assert PEERS.keys() == PACKAGES.keys()


@contextmanager
def peer(name: str, version: Path, thread_count: int, batches: Batches) -> Iterator[System]:
    """A peer that has made its first picture."""
    found, port = PEERS[name], free_port()
    flags = [
        *("--port", str(port), "--model", str(version), "--threads", str(thread_count)),
        *("--max-images", str(batches.max_images), "--max-delay-s", str(batches.max_delay_s)),
    ]
    python = python_of(name)
    environment = dict(found.environment) | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(thread_count),
    }
    if found.tool:
        command = [str(python.with_name(found.tool[0])), *found.tool[1:], "--port", str(port)]
        environment["PEER_ARGUMENTS"] = " ".join(flags)
    else:
        command = [str(python), "-m", f"bench.peers.{found.module}", *flags]

    @asynccontextmanager
    async def calling() -> AsyncIterator[Caller]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"http://127.0.0.1:{port}{found.path}"
            yield _OverHttp(session, url, found.body, found.picture)

    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        started_s = time.perf_counter()
        process = started(command, log, environment)
        tree = Tree(process.pid)
        try:
            cold_start_s = _first_picture_s(calling, process, log) - started_s
            tree.note_idle()
            yield System(name=name, cold_start_s=cold_start_s, tree=tree, calling=calling)
        finally:
            tree.end()
            end_group(process)


def _first_picture_s(calling: Calling, process: subprocess.Popen[bytes], log: Path) -> float:
    """When the first picture was there; raises RuntimeError with the log's end where none comes."""

    async def ask() -> None:
        async with calling() as caller:
            await caller.ask(_FIRST, START_LIMIT_S)

    ends_s = time.perf_counter() + START_LIMIT_S
    told = ""
    while process.poll() is None and time.perf_counter() < ends_s:
        try:
            asyncio.run(ask())
        except NotMade as error:
            told = str(error)
            time.sleep(TRY_AGAIN_S)  # it has no event to wait for, only its answers
        else:
            return time.perf_counter()
    text = log.read_text(errors="replace")
    raise RuntimeError(f"It did not come up: {told}\n{text[-2000:]}")


_FIRST = Arrival(
    index=0,
    at_s=0.0,
    step_count=4,
    guidance_scale=1.0,
    size_px=64,
    scheduler="EulerDiscreteScheduler",
    prompt=0,
)


@contextmanager
def darkroom(model: Path, thread_count: int, sizes_px: tuple[int, ...]) -> Iterator[System]:
    """The service at its default level, what may be shared exactly proved before."""

    @asynccontextmanager
    async def calling() -> AsyncIterator[Caller]:
        async with AsyncClient(address, max_attempts=1) as client:
            yield _OverGrpc(client)

    with tempfile.TemporaryDirectory() as folder:
        repository = repository_with(Path(folder), model, "EXACT")
        flags = ("--worker-thread-count", str(thread_count))
        started_s = time.perf_counter()
        with serving(repository, *flags) as server, connected(server) as client:
            address = server.address
            client.generate(PROMPT, steps=4, width=64, height=64, seed=0)
            cold_start_s = time.perf_counter() - started_s
            prove(client, sizes_px)
            tree = Tree(server.process.pid)
            tree.note_idle()
            yield System(name="darkroom", cold_start_s=cold_start_s, tree=tree, calling=calling)


def lines_to_write(name: str) -> int:
    """Lines that a user writes, without blank ones and comments: the peer's file and the shared."""
    if name == "darkroom":
        return 0
    paths = [Path(__file__).with_name(f"{PEERS[name].module}.py")]
    paths.append(Path(__file__).with_name("grouped.py"))
    lines = [line.strip() for path in paths for line in path.read_text().splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)
