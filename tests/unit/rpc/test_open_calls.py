"""Before the port closes, what has come is waited for, and what stands still is not."""

from __future__ import annotations

import asyncio

import pytest

from darkroom_server.domain.errors import QueueFull
from darkroom_server.rpc import open_calls
from darkroom_server.rpc.open_calls import CallKind, OpenCalls

#: Far more rounds of the loop than looks that are taken.
MANY = 50


@pytest.fixture(autouse=True)
def _looks_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_calls, "_LOOK_S", 0.0)


async def _rounds() -> None:
    for _ in range(MANY):
        await asyncio.sleep(0)


async def test_without_calls_it_is_settled() -> None:
    await OpenCalls().settled()


async def test_an_open_call_is_waited_for() -> None:
    calls = OpenCalls()
    with calls.one(CallKind.WORK):
        settling = asyncio.create_task(calls.settled())
        await _rounds()
        assert not settling.done()
    await settling


async def test_those_that_come_meanwhile_are_waited_for() -> None:
    calls = OpenCalls()
    settling = asyncio.create_task(calls.settled())
    for _ in range(MANY):
        with calls.one(CallKind.WORK):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not settling.done()
    await settling


async def test_watchers_of_health_are_not_waited_for() -> None:
    calls = OpenCalls()
    with calls.one(CallKind.PROBE):
        await calls.settled()


async def test_what_stands_still_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_calls, "_STUCK_S", 0.0)
    calls = OpenCalls()
    with calls.one(CallKind.WORK):
        await calls.settled()


async def test_who_never_stops_coming_does_not_keep_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_calls, "_LIMIT_S", 0.0)
    calls = OpenCalls()
    with calls.one(CallKind.WORK):
        await calls.settled()


def test_streams_of_load_reports_keep_no_probe_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_calls, "MAX_CALLS", dict.fromkeys(CallKind, 1))
    calls = OpenCalls()
    with calls.one(CallKind.LOAD_REPORTS) as first, calls.one(CallKind.LOAD_REPORTS) as second:
        first.require()
        with pytest.raises(QueueFull):
            second.require()
        with calls.one(CallKind.PROBE) as probe, calls.one(CallKind.WORK) as work:
            probe.require()
            work.require()
