"""A worker is killed on the way, on a real server: another goes on, and makes the same bytes."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from bench.serving import Server, connected, serving
from darkroom_client import AsyncClient
from darkroom_client.errors import DarkroomError
from darkroom_client.events import Event, Progress
from darkroom_client.results import Generation

#: Slow enough that every step is told of: progress is, ten times a second.
CONFIG = "backend: BACKEND_FAKE fake { step_s: 0.15 }"
MODEL, STEP_COUNT = "slow", 40
#: More deaths than a job may be at work at without coming further.
DEATHS_AFTER = (5, 8, 12, 17, 20)
STEPS_BETWEEN = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("models")
    (repository / MODEL / "1").mkdir(parents=True)
    (repository / MODEL / "config.pbtxt").write_text(CONFIG)
    with serving(repository) as running, connected(running):
        yield running


class Killer:
    """Kills the worker of a request when it has taken so many steps; `seen` is what was told."""

    def __init__(self, server: Server, *step_counts: int) -> None:
        self._server = server
        self._due = list(step_counts)
        self.seen: list[int] = []
        #: Steps that were told of when the worker was killed.
        self.killed_at: list[int] = []
        self._killed_pid = 0

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Progress):
            return
        self.seen.append(event.completed_step_count)
        pid = self._server.worker_pid()
        if self._due and event.completed_step_count >= self._due[0] and pid != self._killed_pid:
            self._due.pop(0)
            self.killed_at.append(event.completed_step_count)
            self._killed_pid = pid
            os.kill(pid, signal.SIGKILL)


async def made(server: Server, killer: Killer | None = None, *, seed: int = 7) -> Generation:
    async with AsyncClient(server.address) as client:
        return await client.generate(
            "anything", model=MODEL, seed=seed, steps=STEP_COUNT, on_progress=killer
        )


def resumed(server: Server, after: int) -> list[int]:
    """The steps that images had where workers went on with them."""
    return [
        entry["completed_step_count"]
        for entry in server.log[after:]
        if entry.get("event") == "image resumed"
    ]


def test_a_request_outlives_any_number_of_workers(server: Server) -> None:
    wanted = asyncio.run(made(server))
    before = len(server.log)
    killer = Killer(server, *DEATHS_AFTER)
    found = asyncio.run(made(server, killer))
    assert found.images[0].content == wanted.images[0].content
    assert len(killer.killed_at) == len(DEATHS_AFTER)
    gone_on = resumed(server, before)
    assert len(gone_on) == len(DEATHS_AFTER)
    twice = [done - kept for done, kept in zip(killer.killed_at, gone_on, strict=True)]
    # Fewer, or none, where more steps were taken before the signal was there.
    assert all(count <= STEPS_BETWEEN for count in twice), twice
    assert killer.seen == sorted(set(killer.seen))


def test_requests_at_work_together_each_go_on(server: Server) -> None:
    async def crowd() -> list[Generation]:
        killer = Killer(server, 7)
        first = made(server, killer, seed=20)
        return await asyncio.gather(first, *(made(server, seed=21 + n) for n in range(3)))

    before = len(server.log)
    found = asyncio.run(crowd())
    assert [one.images[0].seed for one in found] == [20, 21, 22, 23]
    assert len({one.images[0].content for one in found}) == 4
    assert len(resumed(server, before)) >= 1
    assert asyncio.run(made(server, seed=22)).images[0].content == found[2].images[0].content


def test_a_request_that_kills_workers_is_still_found(server: Server) -> None:
    """It comes no further between its deaths: the third is its last."""

    async def poisonous() -> None:
        async with AsyncClient(server.address) as client:
            await client.generate("poison", model=MODEL, steps=4)

    before = len(server.log)
    with pytest.raises(DarkroomError, match="died 3 times"):
        asyncio.run(poisonous())
    deaths = [entry for entry in server.log[before:] if entry.get("event") == "worker died"]
    assert len(deaths) == 3
    assert asyncio.run(made(server)).images[0].seed == 7
