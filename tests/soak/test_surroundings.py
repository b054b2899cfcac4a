"""What the service stands on changes under load: the clock, Redis, the process itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import struct
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.serving import DARKROOM, Server, serving
from darkroom_client import AsyncClient, DarkroomError
from tests.integration.access.redis_server import redis_server
from tests.soak.accounts import PATIENCE_S, RETRY_S, Account, Crowd
from tests.soak.stand import MODEL, UNAVAILABLE, is_alive, parent_of, repository, until

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Keyed:
    """A server whose callers have a key with limits, so that it looks at the clock for each."""

    server: Server
    key: str

    @contextlib.asynccontextmanager
    async def under_way(self, outcomes: Counter[str], caller_count: int) -> AsyncIterator[None]:
        """Callers that ask again and again, until the block is over."""
        is_over = asyncio.Event()

        async def caller() -> None:
            address = self.server.address
            async with AsyncClient(address, api_key=self.key, max_attempts=1) as client:
                while not is_over.is_set():
                    outcomes[await self._outcome(client)] += 1

        callers = [asyncio.ensure_future(caller()) for _ in range(caller_count)]
        try:
            yield
        finally:
            is_over.set()
            await asyncio.gather(*callers)

    async def _outcome(self, client: AsyncClient) -> str:
        try:
            await client.generate(
                "x", model=MODEL, steps=4, width=16, height=16, seed=1, timeout=PATIENCE_S
            )
        except DarkroomError as error:
            await asyncio.sleep(RETRY_S)
            return type(error).__name__ + " " + str(getattr(error, "reason", ""))
        return "made"


@contextlib.contextmanager
def keyed(folder: Path, *flags: str, program: tuple[str, ...] = DARKROOM) -> Iterator[Keyed]:
    """Such a server, with its models there."""
    file = str(folder / "keys.toml")
    limits = ("--rate-limit", "100000/day", "--credits", "1000000")
    command = [*DARKROOM, "keys", "create", "x", "--keys-file", file, *limits]
    made = subprocess.run(command, check=True, capture_output=True, text=True)
    root = repository(folder / "models")
    with serving(root, "--keys-file", file, *flags, program=program) as server:
        server.until("model", state="ready")
        yield Keyed(server, made.stdout.strip())


async def _more(outcomes: Counter[str], outcome: str = "made") -> None:
    before = outcomes[outcome]
    await until(lambda: outcomes[outcome] >= before + 8)


@pytest.mark.timeout(900)
def test_the_clock_jumps_forward_and_back(tmp_path: Path) -> None:
    async def jumping() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        async with one.under_way(outcomes, 4):
            await _more(outcomes)
            for offset_s in (DAY_S, 0, -DAY_S, 400 * DAY_S, 0):
                # In place: what is mapped must not be cut off for a moment.
                with offset.open("r+b") as file:
                    file.write(struct.pack("q", offset_s))
                await _more(outcomes)
        return outcomes

    offset, shim = tmp_path / "offset", tmp_path / "jumping_clock.so"
    offset.write_bytes(struct.pack("q", 0))
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source = Path(__file__).with_name("jumping_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"], check=True)
    program = ("env", f"LD_PRELOAD={shim}", f"CLOCK_OFFSET={offset}", *DARKROOM)
    with keyed(tmp_path, program=program) as one:
        outcomes = asyncio.run(jumping())
        assert one.server.process.poll() is None
        assert "Traceback" not in str(one.server.log)
        dates = {str(entry.get("timestamp"))[:4] for entry in one.server.log}
    print(f"| clock jumps | {outcomes.total()} | {dict(outcomes)} |")
    assert len(dates) > 1, "the clock has not jumped"
    # A call that comes in the very moment of a jump may be told that its deadline has passed.
    assert outcomes.keys() <= {"made", "DeadlineExceeded DEADLINE_EXCEEDED"}
    assert outcomes["DeadlineExceeded DEADLINE_EXCEEDED"] <= 4 * 5


@pytest.mark.timeout(900)
def test_redis_goes_and_comes_back(tmp_path: Path) -> None:
    """While it is away nothing is made uncounted, and it is said why; then all goes on."""

    async def going() -> Counter[str]:
        outcomes: Counter[str] = Counter()
        async with one.under_way(outcomes, 4):
            for _ in range(2):
                await _more(outcomes)
                redis.stop()
                await until(lambda: [name for name in outcomes if "LIMITS_UNAVAILABLE" in name])
                await asyncio.to_thread(redis.start)
            await _more(outcomes)
        return outcomes

    (tmp_path / "redis").mkdir()
    with (
        redis_server(tmp_path / "redis") as redis,
        keyed(tmp_path, "--limits-storage", redis.url) as one,
    ):
        outcomes = asyncio.run(going())
        assert one.server.process.poll() is None
    print(f"| Redis goes | {outcomes.total()} | {dict(outcomes)} |")
    assert all(name == "made" or "LIMITS_UNAVAILABLE" in name for name in outcomes), outcomes


@pytest.mark.timeout(900)
def test_a_server_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    """kill -9 of the server under load: who waited is told, and its workers end by themselves."""

    async def killed(server: Server) -> tuple[Account, list[int]]:
        account = Account()
        async with Crowd(server.address, MODEL).under_way(account, 8):
            await until(lambda: account.outcomes["made"] > 8)
            workers = [one["pid"] for one in server.log if one.get("event") == "worker ready"]
            pids = sorted({*workers, *map(parent_of, workers)} - {server.process.pid})
            os.kill(server.process.pid, signal.SIGKILL)
            await until(lambda: account.outcomes["UNAVAILABLE"] >= 8)
            await until(lambda: not any(map(is_alive, pids)))
        return account, pids

    with serving(repository(tmp_path / "models")) as server:
        server.until("model", state="ready")
        account, pids = asyncio.run(killed(server))
    print(f"| kill -9 of the server | {account.asked_count} | {dict(account.outcomes)} |")
    assert len(pids) >= 2
    account.require_sound(UNAVAILABLE)
