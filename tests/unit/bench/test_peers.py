"""The comparison with other servers, played on two that are made up: one quick, one slow."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.peers import measures
from bench.peers.driver import play
from bench.peers.figures import Row, in_turn
from bench.peers.grouped import key_of
from bench.peers.measures import Plays, Stage
from bench.peers.section import section
from bench.peers.systems import Caller, NotMade, System
from bench.report import _figure
from bench.results_table import keep
from bench.scoring import OBJECTIVES
from bench.virtual import Device
from bench.workloads import W_CANCEL, W_MIX, Arrival, at_once

DEVICE = Device(
    name="made up", row_s=1e-4, decode_unit_s=1e-4, gains=((1, 1.0), (2, 1.0)), size_px=64
)
PLAYS = Plays(
    seeds=(1,),
    request_count=20,
    rate_factor=4.0,
    rate_count=2,
    pair_count=2,
    round_count=2,
    waiting_counts=(4, 2),
    equal_count=4,
    hang_up_count=2,
    objectives=OBJECTIVES[:1],
)


def picture(one: Arrival) -> np.ndarray[Any, Any]:
    return np.full((8, 8, 3), one.index % 256, dtype=np.uint8)


class Bare:
    def run(self, batch: Sequence[Arrival]) -> list[np.ndarray[Any, Any]]:
        return [picture(one) for one in batch]

    def timed_s(self, batch: Sequence[Arrival]) -> float:
        return 1e-3 * len(batch)


@dataclass
class MadeUp:
    """A server that makes right pictures, or wrong ones, or none."""

    is_wrong: bool = False
    fails: Callable[[Arrival], bool] = lambda _: False
    hangs: bool = False
    asked: list[int] = field(default_factory=list)
    hung_up: int = 0

    async def ask(self, one: Arrival, timeout_s: float) -> bytes:
        del timeout_s
        self.asked.append(one.index)
        if self.fails(one):
            raise NotMade("no")
        try:
            await asyncio.sleep(3600 if self.hangs else 0)
        except asyncio.CancelledError:
            self.hung_up += 1
            raise
        target = io.BytesIO()
        Image.fromarray(picture(one) + self.is_wrong).save(target, "PNG")
        return target.getvalue()

    async def first_picture(self, one: Arrival, timeout_s: float) -> float:
        await self.ask(one, timeout_s)
        return time.perf_counter()


class NoTree:
    """Takes a second whenever it is looked at."""

    def __init__(self) -> None:
        self._taken_s = 0.0

    def cpu_s(self) -> float:
        self._taken_s += 1.0
        return self._taken_s

    quiet_cpu_s = cpu_s


def system(name: str, server: MadeUp) -> System:
    @asynccontextmanager
    async def calling() -> AsyncIterator[Caller]:
        yield server

    return System(name=name, cold_start_s=1.0, tree=NoTree(), calling=calling)  # type: ignore[arg-type]


def stage(**servers: MadeUp) -> Stage:
    systems = {name: system(name, server) for name, server in servers.items()}
    return Stage(systems=systems, bare=Bare(), device=DEVICE, plays=PLAYS)


def test_every_request_is_made_failed_or_hung_up_on() -> None:
    server = MadeUp(fails=lambda one: one.index == 3)
    arrivals = at_once(W_MIX.arrivals(1, 6, size_px=64))
    played = play(system("x", server).calling, arrivals, [None] * 6, DEVICE)
    assert played.pictures.keys() == {0, 1, 2, 4, 5} == played.trace.finished_s.keys()
    assert played.failed == {3: "no"}
    assert not played.hung_up


def test_an_impatient_caller_hangs_up() -> None:
    server = MadeUp(hangs=True)
    drawn = at_once(W_CANCEL.arrivals(1, 200, size_px=64))
    leaving = [one for one in drawn if one.patience is not None]
    assert leaving
    deadlines = [None] * len(drawn)
    played = play(system("x", server).calling, leaving, deadlines, DEVICE)
    assert played.hung_up == {one.index for one in leaving}
    assert server.hung_up == len(leaving)


def test_pictures_are_compared_with_the_pipelines() -> None:
    alone, together = measures.equal_pictures(stage(darkroom=MadeUp(), peer=MadeUp(is_wrong=True)))
    for row in (alone, together):
        assert row.values == {"darkroom": [1.0], "peer": [0.0]}


def test_goodput_is_that_of_the_highest_load_that_is_kept() -> None:
    row = measures.goodput(
        stage(darkroom=MadeUp(), peer=MadeUp(fails=lambda _: True)), OBJECTIVES[0]
    )
    assert row.values["peer"] == [0.0]
    loads = [load for _, load, _ in row.details["seed_load_share"]["darkroom"]]
    assert loads == sorted(loads)
    assert row.against_best(3.0, at_least=True).estimate is None


def test_one_goes_first_and_then_the_other() -> None:
    assert [in_turn(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_a_goal_is_ours_over_the_best_peers() -> None:
    values = {"darkroom": [6.0, 8.0], "slow": [1.0, 1.0], "quick": [2.0, 4.0]}
    row = Row(measure="goodput", unit="/s", more_is_better=True, values=values)
    goal = row.against_best(2.0, at_least=True)
    assert goal.details["best_peer"] == "quick"
    assert goal.estimate is not None
    assert goal.estimate.median == pytest.approx(2.5)
    assert goal.met


def test_equal_parameters_go_together() -> None:
    one = {"steps": 4, "guidance_scale": 1.0, "size_px": 64, "scheduler": "x", "seed": 1}
    assert key_of(one) == key_of(one | {"seed": 2})
    assert key_of(one) != key_of(one | {"steps": 5})


def test_results_become_a_table_that_says_who_leads(tmp_path: Any) -> None:
    made = stage(darkroom=MadeUp(), peer=MadeUp(is_wrong=True))
    figures = [one for row in measures.equal_pictures(made) for one in row.figures()]
    rows = [measures.idle_latency(made), measures.throughput(made, 4), measures.wasted(made)]
    rows += measures.moderate_load(made)
    figures += [one for row in rows for one in row.figures()]
    figures.append(rows[1].of_ours(0.98, at_least=True))
    kept = keep(figures, tiers="peers", quick=True, commit="abc", folder=tmp_path, note="Busy.")
    text = "\n".join(section(json.loads(kept.read_text()), _figure))
    assert "| | darkroom | peer |" in text
    assert "| pictures equal to the pipeline's, alone, of 4 | **1** | 0 |" in text
    assert "Busy." in text
    assert "of 4 steps at 0.7 load" in text
