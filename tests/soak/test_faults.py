"""What breaks, breaks under load: every request has one outcome, and a good one follows.

One server on the fake model, whose pictures are known. The short form is for every day; `make soak`
runs the long one, and prints the account of each fault. No time is asserted: waits are bounds
against hanging, and how soon a request was good again is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import pytest

from bench.serving import DARKROOM, Server, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from tests.soak.accounts import PATIENCE_S, Account, Crowd
from tests.soak.network import Link, linked
from tests.soak.stand import FLAGS, MODEL, UNAVAILABLE, Stand, is_alive, repository, until


async def kill_workers(stand: Stand) -> None:
    """kill -9 of one worker after another, each once those of before have been made.

    Sooner, the same requests would be at work at every death, and be held to be the cause.
    """
    for _ in range(stand.count):
        pid = await stand.worker()
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        await stand.served(64)


async def kill_fork_server(stand: Stand) -> None:
    """kill -9 of what starts workers, and of a worker, which then cannot be replaced by it."""
    for _ in range(max(1, stand.count // 4)):
        pid = await until(stand.fork_server)
        os.kill(pid, signal.SIGKILL)
        os.kill(await stand.worker(), signal.SIGKILL)
        await until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        await stand.served(64)


async def stop_a_worker(stand: Stand) -> None:
    """SIGSTOP: it lives, and does nothing; it is held to hang."""
    after, pid = len(stand.server.log), await stand.worker()
    os.kill(pid, signal.SIGSTOP)
    await stand.logged(after, event="worker hangs")
    await until(lambda: not is_alive(pid))


async def stop_an_orphan(stand: Stand) -> None:
    """The same of a worker whose fork server was killed, after which nothing is told of it."""
    fork_server = await until(stand.fork_server)
    os.kill(fork_server, signal.SIGKILL)
    await until(lambda: not is_alive(fork_server))
    await stop_a_worker(stand)


async def hang_up_signals(stand: Stand) -> None:
    """SIGHUP to all processes of the service, as when a terminal is closed."""
    for _ in range(stand.count):
        stand.server.signal_all(signal.SIGHUP)
        await asyncio.sleep(0.02)


async def callers_leave(stand: Stand) -> None:
    """Callers die in the middle of their stream."""
    account = Account()
    await stand.crowd.hang_up(account, 4 * stand.count)
    assert not account.outcomes["lost"], account


async def readers_stop(stand: Stand) -> None:
    """Callers that ask for much and read nothing, until they go."""
    address = stand.server.address
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(2 * stand.count):
            channel = await opened.enter_async_context(grpc.aio.insecure_channel(address))
            await opened.enter_async_context(unread(channel))
        await asyncio.sleep(0.5)


@contextlib.asynccontextmanager
async def unread(channel: grpc.aio.Channel) -> AsyncIterator[None]:
    """A request of which no answer is read."""
    request = GenerateRequest(prompt="x", model=MODEL, step_count=2, image_count=4)
    call = ImageServiceStub(channel).Generate(request)
    yield
    call.cancel()


async def repository_goes(stand: Stand) -> None:
    """The folder of the model is taken away while it serves, and comes back."""
    folder, aside = stand.root / MODEL, stand.root.parent / "aside"
    for _ in range(max(1, stand.count // 4)):
        after = len(stand.server.log)
        folder.rename(aside)
        await stand.logged(after, event="model", model=f"{MODEL}/1", state="unloaded")
        after = len(stand.server.log)
        aside.rename(folder)
        await stand.logged(after, event="model", model=f"{MODEL}/1", state="ready")


async def repository_is_a_file(stand: Stand) -> None:
    """The whole repository is replaced by a file, then by itself again; what serves serves on."""
    aside = stand.root.parent / "whole"
    after = len(stand.server.log)
    stand.root.rename(aside)
    stand.root.write_text("no folder")
    await until(lambda: len(stand.server.log) > after)
    stand.root.unlink()
    aside.rename(stand.root)


async def config_breaks(stand: Stand) -> None:
    """The configuration is overwritten with nonsense while it serves; the version serves on."""
    config = stand.root / MODEL / "config.pbtxt"
    kept, after = config.read_text(), len(stand.server.log)
    config.write_bytes(bytes(range(256)))
    await until(lambda: len(stand.server.log) > after)
    config.write_text(kept)


async def nothing(stand: Stand) -> None:
    """All requests there at once: nothing breaks."""
    account = Account()
    await stand.crowd.at_once(account, 300 * stand.count)
    account.require_sound()


async def version_goes(stand: Stand) -> None:
    """The folder of the only version is deleted while it serves: a mistake, so it serves on."""
    version = stand.root / MODEL / "1"
    after = len(stand.server.log)
    shutil.rmtree(version)
    await stand.logged(after, event="model repository")
    version.mkdir()


async def config_is_unreadable(stand: Stand) -> None:
    """In place of the configuration there is what cannot be read; the version serves on."""
    config = stand.root / MODEL / "config.pbtxt"
    kept = config.read_text()
    for is_folder in (True, False):
        after = len(stand.server.log)
        config.unlink()
        if is_folder:
            config.mkdir()
        else:
            config.symlink_to("nowhere")
        await until(lambda after=after: len(stand.server.log) > after)  # type: ignore[misc]
        if is_folder:
            config.rmdir()
        else:
            config.unlink()
        config.write_text(kept)


async def config_is_replaced(stand: Stand) -> None:
    """Another configuration that is as good: the version is loaded anew beside the one at work."""
    config = stand.root / MODEL / "config.pbtxt"
    kept = config.read_text()
    for text in (kept.replace("0.01", "0.011"), kept):
        after = len(stand.server.log)
        config.write_text(text)
        await stand.logged(after, event="model", model=f"{MODEL}/1", state="ready")


async def kill_as_they_come(stand: Stand) -> None:
    """kill -9 of whatever worker there is, as fast as they come up."""
    for _ in range(6 * stand.count):
        pid = await stand.worker()
        os.kill(pid, signal.SIGKILL)
        await until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


def through(link: Link, account: Account) -> contextlib.AbstractAsyncContextManager[None]:
    """Callers beyond the link."""
    return Crowd(link.address, MODEL).under_way(account, 4)


async def more_made(account: Account) -> None:
    """Returns when they have some more pictures."""
    before = account.outcomes["made"]
    await until(lambda: account.outcomes["made"] > before + 4)


async def network_is_cut(stand: Stand) -> None:
    """Connections end without a goodbye; whose connection did not is served on."""
    account = Account()
    async with linked(stand.server.address) as link, through(link, account):
        for _ in range(stand.count):
            await more_made(account)
            assert link.cut()
    account.require_sound(UNAVAILABLE)


async def network_stands_still(stand: Stand) -> None:
    """Nothing comes through for a while, and then goes on: nothing has failed."""
    account = Account()
    async with linked(stand.server.address) as link, through(link, account):
        for _ in range(stand.count):
            await more_made(account)
            with link.standing_still():
                await stand.served(32)
    account.require_sound()


Fault = Callable[[Stand], Awaitable[None]]
#: What is done, and as what requests may fail of it besides being made.
FAULTS: list[tuple[Fault, tuple[grpc.StatusCode, ...]]] = [
    (nothing, ()),
    (kill_workers, ()),
    (kill_fork_server, ()),
    (stop_a_worker, ()),
    (stop_an_orphan, ()),
    (hang_up_signals, ()),
    (callers_leave, ()),
    (readers_stop, ()),
    (config_breaks, (UNAVAILABLE,)),
    (repository_is_a_file, (UNAVAILABLE, grpc.StatusCode.NOT_FOUND)),
    (repository_goes, (UNAVAILABLE, grpc.StatusCode.NOT_FOUND)),
    (version_goes, ()),
    (config_is_unreadable, (UNAVAILABLE,)),
    (config_is_replaced, ()),
    # Five deaths in a row without a job: it is given up, until the next scan of the repository.
    (kill_as_they_come, (UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)),
    (network_is_cut, ()),
    (network_stands_still, ()),
]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, 4), id="short"),
        pytest.param((30, 16), id="long", marks=pytest.mark.slow),
    ],
)
def stand(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stand, int]]:
    """The server of all faults, and how many callers there are meanwhile."""
    count, caller_count = request.param
    root = repository(tmp_path_factory.mktemp("soak") / "models")
    with serving(root, *FLAGS) as server:
        server.until("model", state="ready")
        crowd = Crowd(server.address, MODEL)
        yield Stand(root, server, crowd, count, random.Random(1)), caller_count
        assert server.process.poll() is None
        assert "Traceback" not in str(server.log)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("fault", "allowed"), FAULTS, ids=[one.__name__ for one, _ in FAULTS])
def test_every_request_has_one_outcome_and_a_good_one_follows(
    stand: tuple[Stand, int], fault: Fault, allowed: tuple[grpc.StatusCode, ...]
) -> None:
    async def broken() -> tuple[Account, float]:
        one.account = account = Account()
        async with one.crowd.under_way(account, caller_count):
            await until(lambda: account.outcomes["made"] > caller_count)
            await fault(one)
        return account, await one.crowd.good_after_s()

    one, caller_count = stand
    started_s = time.monotonic()
    account, good_after_s = asyncio.run(broken())
    print(
        f"| {fault.__name__} | {account.asked_count} | {dict(account.outcomes)} | "
        f"{account.doubled_count} | {account.wrong_count} | {good_after_s:.2f} s | "
        f"{time.monotonic() - started_s:.1f} s |"
    )
    account.require_sound(*allowed)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "count", [100, pytest.param(10_000, marks=pytest.mark.slow, id="ten thousand")]
)
def test_what_is_told_to_stop_ends_every_call(tmp_path: Path, count: int) -> None:
    """SIGTERM with requests at work and waiting: made or turned away, and a clean exit."""

    async def stopped(server: Server) -> Account:
        account = Account()
        asking = asyncio.ensure_future(Crowd(server.address, MODEL).at_once(account, count))
        await until(lambda: account.outcomes["made"])
        server.process.send_signal(signal.SIGTERM)
        await asking
        return account

    with serving(repository(tmp_path / "models"), "--exit-timeout", "2") as server:
        server.until("model", state="ready")
        account = asyncio.run(stopped(server))
        assert server.process.wait(PATIENCE_S) == 0
    print(f"| SIGTERM | {count} | {dict(account.outcomes)} |")
    assert account.asked_count == count
    account.require_sound(UNAVAILABLE)


#: Limits of the process, as `prlimit` sets them.
LIMITS = {
    "no file may grow beyond 4 KiB": ("--fsize=4096",),
    "of 96 files": ("--nofile=96",),
    "of 2 GiB of addresses": ("--as=2147483648",),
}


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="no prlimit here")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())
def test_within_limits_of_the_system(tmp_path: Path, limits: tuple[str, ...]) -> None:
    """A full disk, and want of descriptors: what can be made is made, and the rest turned away."""

    async def crowded(server: Server) -> tuple[Account, float]:
        account, crowd = Account(), Crowd(server.address, MODEL)
        async with crowd.under_way(account, 64):
            await until(lambda: account.asked_count > 128)
            os.kill(server.worker_pid(), signal.SIGKILL)
            await until(lambda: account.asked_count > 256)
        return account, await crowd.good_after_s()

    program = ("prlimit", *limits, *DARKROOM)
    with serving(repository(tmp_path / "models"), *FLAGS, program=program) as server:
        server.until("model", state="ready")
        account, good_after_s = asyncio.run(crowded(server))
        assert server.process.poll() is None
    outcomes = dict(account.outcomes)
    print(f"| {limits[0]} | {account.asked_count} | {outcomes} | {good_after_s:.2f} s |")
    account.require_sound(UNAVAILABLE)
    assert account.outcomes["made"]
