"""Work beside the calls: nothing of it ends without a word, and what must go on does."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

from darkroom_server import background


async def fail(error: Exception) -> None:
    raise error


async def test_work_that_fails_is_logged_and_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_S", 0.0)
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 4:
            raise RecursionError("too deep")

    with capture_logs() as logs:
        await background.keep_going("watch", work)
    assert begun == [0, 1, 2, 3]
    assert [(one["event"], one["work"]) for one in logs] == [
        ("background work failed", "watch")
    ] * 3
    assert all(isinstance(one["exc_info"], RecursionError) for one in logs)


async def test_work_that_is_told_to_end_is_not_begun_again() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    task = background.keep_going("watch", work)
    await begun.wait()
    task.cancel()
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await task
    assert logs == []


async def test_pauses_grow_while_it_goes_on_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses_s: list[float] = []

    async def no_sleep(pause_s: float) -> None:
        pauses_s.append(pause_s)
        if len(pauses_s) == 9:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    with capture_logs(), pytest.raises(asyncio.CancelledError):
        await background.keep_going("watch", lambda: fail(ValueError()))
    assert pauses_s == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


async def test_what_is_done_once_is_logged_and_told() -> None:
    told: list[str] = []
    with capture_logs() as logs:
        task = background.begin(
            "load", fail(ValueError("x")), on_failure=lambda: told.append("failed")
        )
        await asyncio.wait({task})
        await asyncio.wait({background.begin("load", asyncio.Event().wait())}, timeout=0)
    assert told == ["failed"]
    assert [one["work"] for one in logs] == ["load"]


async def test_what_others_wait_for_is_theirs_to_tell() -> None:
    with capture_logs() as logs:
        task = background.begin("load", fail(KeyError()), expected=(KeyError,))
        with pytest.raises(KeyError):
            await task
    assert logs == []


async def test_what_a_thread_raises_is_logged() -> None:
    with capture_logs() as logs, ThreadPoolExecutor(1) as pool:
        background.log_failure("write", pool.submit(int, "no number"))
    assert [one["work"] for one in logs] == ["write"]


async def test_what_a_callback_raises_is_logged() -> None:
    loop = asyncio.get_running_loop()
    background.log_what_is_left(loop)
    with capture_logs() as logs:
        loop.call_soon(int, "no number")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [one["event"] for one in logs] == ["event loop"]
