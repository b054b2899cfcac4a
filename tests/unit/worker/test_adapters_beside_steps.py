"""While a request's adapters are read, others take every one of their steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.backends.fake import FakeStepModel
from darkroom_server.domain.adapters import AdapterUse, AdapterVersion
from darkroom_server.domain.jobs import ImageSpec, JobCompleted, JobProgress, Stage
from tests.unit.worker.loop_bench import Bench, shared

INK = AdapterUse(
    adapter=AdapterVersion(name="ink", version=1, path=Path("ink"), digest="d", size_bytes=1),
    weight=1.0,
)


class Reading(FakeStepModel):
    """Its adapters are in memory when somebody says so."""

    is_read = False

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float] = []

    def prepared(self, spec: ImageSpec, wait_s: float = 0.0) -> bool:
        self.waits_s.append(wait_s)
        return self.is_read or not spec.adapters


@pytest.fixture
def model() -> Reading:
    return Reading()


def steps_done(bench: Bench, name: str) -> int:
    events = [e for e in bench.events(name) if isinstance(e, JobProgress)]
    return max((e.completed_step_count for e in events if e.stage is Stage.DENOISE), default=0)


def test_reading_delays_no_step_of_others(model: Reading) -> None:
    bench = Bench(model)
    bench.loop.post(shared("slow", step_count=3, adapters=(INK,)))
    bench.loop.post(shared("other", step_count=4))
    bench.ticks(4)
    assert steps_done(bench, "other") == 4
    assert steps_done(bench, "slow") == 0
    assert not any(model.waits_s)  # nobody was waited for


def test_it_shares_the_next_step_once_it_is_read(model: Reading) -> None:
    bench = Bench(model)
    bench.loop.post(shared("slow", step_count=2, adapters=(INK,)))
    bench.loop.post(shared("other", step_count=4))
    bench.ticks(2)
    model.is_read = True
    bench.ticks(2)
    assert any(isinstance(event, JobCompleted) for event in bench.events("slow"))
    shares = [e.batch.batch_image_count for e in bench.events("other")
              if isinstance(e, JobProgress) and e.batch is not None]  # fmt: skip
    assert shares == [1, 1, 2, 2]


def test_where_there_is_nothing_else_to_do_it_is_waited_for_in_short_turns(model: Reading) -> None:
    bench = Bench(model)
    bench.loop.post(shared("slow", step_count=1, adapters=(INK,)))
    bench.ticks(2)
    assert 0 < max(model.waits_s) <= 0.1
    model.is_read = True
    bench.ticks(1)
    assert any(isinstance(event, JobCompleted) for event in bench.events("slow"))
