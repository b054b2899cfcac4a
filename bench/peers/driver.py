"""The open-loop driver: requests come when they are due, to whatever system, with equal seeds.

Latency counts from the scheduled arrival, so that a generator that falls behind hides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.peers.systems import Caller, Calling, NotMade
from bench.virtual import Device, Trace
from bench.workloads import Arrival

#: A request that was told no deadline is given up after this, so that a measurement ends.
GIVE_UP_S = 600.0


@dataclass(slots=True)
class Played:
    """One playing: when pictures came, and what became of the rest."""

    trace: Trace = field(default_factory=Trace)
    pictures: dict[int, bytes] = field(default_factory=dict)
    hung_up: set[int] = field(default_factory=set)
    failed: dict[int, str] = field(default_factory=dict)


def play(
    calling: Calling,
    arrivals: Sequence[Arrival],
    deadlines_s: Sequence[float | None],
    device: Device,
) -> Played:
    """Plays arrivals in real time: every request is made, has failed, or was hung up on."""
    return asyncio.run(_play(calling, arrivals, deadlines_s, device))


async def _play(
    calling: Calling,
    arrivals: Sequence[Arrival],
    deadlines_s: Sequence[float | None],
    device: Device,
) -> Played:
    played = Played()
    async with calling() as caller:
        started_s = time.perf_counter()

        def now_s() -> float:
            return time.perf_counter() - started_s

        async def one_request(one: Arrival) -> None:
            await asyncio.sleep(max(0.0, one.at_s - now_s()))
            deadline_s = deadlines_s[one.index]
            timeout_s = GIVE_UP_S if deadline_s is None else deadline_s - now_s()
            try:
                content = await _until_impatient(caller, one, timeout_s, device)
            except NotMade as error:
                played.failed[one.index] = str(error)
            else:
                if content is None:
                    played.hung_up.add(one.index)
                else:
                    played.trace.finished_s[one.index] = now_s()
                    played.pictures[one.index] = content

        await asyncio.gather(*map(one_request, arrivals))
        played.trace.end_s = now_s()
    return played


async def _until_impatient(
    caller: Caller, one: Arrival, timeout_s: float, device: Device
) -> bytes | None:
    """The picture; None where the caller has hung up before."""
    if one.patience is None:
        return await caller.ask(one, timeout_s)
    asking = asyncio.ensure_future(caller.ask(one, timeout_s))
    await asyncio.wait([asking], timeout=one.patience * device.alone_s(one.kind))
    if asking.done():
        return asking.result()
    asking.cancel()
    await asyncio.wait([asking])
    return None


def first_pictures_s(calling: Calling, arrivals: Sequence[Arrival]) -> list[float]:
    """From each arrival to its first preview or image, sorted; without those that failed."""

    async def played() -> list[float]:
        async with calling() as caller:
            started_s = time.perf_counter()

            async def one_request(one: Arrival) -> float | None:
                await asyncio.sleep(max(0.0, started_s + one.at_s - time.perf_counter()))
                try:
                    seen_s = await caller.first_picture(one, GIVE_UP_S)
                except NotMade:
                    return None
                return seen_s - started_s - one.at_s

            found = await asyncio.gather(*map(one_request, arrivals))
        return sorted(one for one in found if one is not None)

    return asyncio.run(played())
