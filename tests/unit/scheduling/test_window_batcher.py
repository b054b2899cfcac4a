from __future__ import annotations

import itertools
import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.window_batcher import (
    PATIENCE_S,
    ImagePlace,
    WaitUntil,
    WindowBatch,
    WindowBatcher,
)
from tests.unit.specs import job

MAX_IMAGES = 8
DELAY_S = 0.5
RUN_S = 2.0
AT_ONCE = DynamicBatching()
WAITING = DynamicBatching(max_queue_delay_s=DELAY_S)
PREFERRING = DynamicBatching(preferred_batch_sizes=(2, 4), max_queue_delay_s=DELAY_S)


@dataclass
class Simulation:
    """A batcher, and a device on which every batch takes as long."""

    batching: DynamicBatching = AT_ONCE
    max_images: int = MAX_IMAGES
    now_s: float = 0.0
    batches: list[WindowBatch] = field(default_factory=list)
    started_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batcher = WindowBatcher(self.max_images, self.batching)

    def add(
        self,
        name: str,
        key: Hashable = "a",
        *,
        images: int = 1,
        alone: bool = False,
        priority: Priority = Priority.NORMAL,
        within_s: float | None = None,
    ) -> None:
        deadline_s = None if within_s is None else self.now_s + within_s
        made = job(name, seeds=tuple(range(images)), priority=priority, deadline_s=deadline_s)
        self.batcher.add(made, key, self.now_s, alone=alone)

    def plan(self) -> WindowBatch | WaitUntil:
        planned = self.batcher.plan(self.now_s)
        assert planned == self.batcher.plan(self.now_s)
        return planned

    def names(self) -> str:
        """The jobs of the batch that would run now, a letter an image; empty while waiting."""
        planned = self.plan()
        return letters(planned) if isinstance(planned, WindowBatch) else ""

    def step(self) -> bool:
        """Waits for the next batch and runs it; whether there was one."""
        planned = self.plan()
        if isinstance(planned, WaitUntil):
            if math.isinf(planned.until_s):
                return False
            self.now_s = planned.until_s
            planned = self.plan()
        assert isinstance(planned, WindowBatch)
        self.batches.append(planned)
        self.started_s.append(self.now_s)
        self.now_s += RUN_S
        self.batcher.commit(planned)
        return True

    def run(self) -> list[str]:
        while self.step():
            pass
        return [letters(batch) for batch in self.batches]


def letters(batch: WindowBatch) -> str:
    return "".join(image.job_id for image in batch.images)


@pytest.mark.parametrize(
    ("batching", "images", "batches"),
    [
        pytest.param(AT_ONCE, (1,), "a", id="alone-at-once-without-a-delay"),
        pytest.param(AT_ONCE, (1, 2), "abb", id="what-is-there-without-a-delay"),
        pytest.param(WAITING, (1, 2), "", id="waits-for-more"),
        pytest.param(WAITING, (4, 4), "aaaabbbb", id="full"),
        pytest.param(WAITING, (4, 5), "aaaa", id="as-full-as-it-gets"),
        pytest.param(WAITING, (6, 3, 2), "aaaaaacc", id="looks-past-what-does-not-fit"),
        pytest.param(PREFERRING, (1,), "", id="below-every-preferred-size"),
        pytest.param(PREFERRING, (1, 1), "ab", id="smaller-preferred-size"),
        pytest.param(PREFERRING, (1, 1, 1), "ab", id="back-to-a-preferred-size"),
        pytest.param(PREFERRING, (1, 1, 1, 1, 1), "abcd", id="largest-preferred-size"),
        pytest.param(PREFERRING, (3, 3), "aaa", id="no-preferred-size-comes-about"),
        pytest.param(PREFERRING, (6, 1), "aaaaaa", id="larger-than-every-preferred-size"),
    ],
)
def test_a_batch_runs_when_it_is_full_or_of_a_preferred_size(
    batching: DynamicBatching, images: tuple[int, ...], batches: str
) -> None:
    simulation = Simulation(batching)
    for name, count in zip("abcde", images, strict=False):
        simulation.add(name, images=count)
    assert simulation.names() == batches


def test_a_batch_runs_as_it_is_when_its_oldest_has_waited_long_enough() -> None:
    simulation = Simulation(WAITING)
    simulation.add("a")
    simulation.now_s = 0.3
    simulation.add("b")
    assert simulation.plan() == WaitUntil(DELAY_S)
    simulation.now_s = DELAY_S
    assert simulation.names() == "ab"


def test_nothing_to_do_is_nothing_to_wait_for() -> None:
    assert Simulation().plan() == WaitUntil(math.inf)


def test_different_keys_do_not_mix_and_the_one_that_is_due_first_runs_first() -> None:
    simulation = Simulation(WAITING)
    simulation.add("a", "wide")
    simulation.now_s = 0.1
    simulation.add("b", "tall")
    simulation.add("c", "wide")
    assert simulation.run() == ["ac", "b"]
    assert simulation.started_s[0] == DELAY_S


def test_a_full_batch_does_not_wait_for_an_older_one() -> None:
    simulation = Simulation(WAITING)
    simulation.add("a", "wide")
    simulation.add("b", "tall", images=MAX_IMAGES)
    assert simulation.run() == ["b" * MAX_IMAGES, "a"]
    assert simulation.started_s[0] == 0.0


def test_a_job_with_more_images_than_fit_goes_in_parts_and_others_fill_the_last() -> None:
    simulation = Simulation(max_images=4)
    simulation.add("a", images=6)
    simulation.add("b", images=2)
    assert simulation.run() == ["aaaa", "aabb"]
    images = [image for batch in simulation.batches for image in batch.images]
    assert [image.image_index for image in images] == [0, 1, 2, 3, 4, 5, 0, 1]


def test_alone_means_image_by_image_and_without_waiting() -> None:
    simulation = Simulation(WAITING)
    simulation.add("a", images=2, alone=True)
    simulation.add("b", alone=True)
    assert simulation.run() == ["a", "a", "b"]
    assert simulation.started_s[0] == 0.0


def test_a_higher_priority_goes_first_and_the_rest_of_its_batch_to_the_lower() -> None:
    simulation = Simulation(max_images=2)
    simulation.add("l", priority=Priority.LOW)
    simulation.add("m", priority=Priority.LOW)
    simulation.add("h", priority=Priority.HIGH)
    assert simulation.run() == ["hl", "m"]


def test_a_lower_priority_does_not_overtake_one_that_still_waits_for_others() -> None:
    simulation = Simulation(WAITING)
    simulation.add("h", "wide", priority=Priority.HIGH)
    simulation.add("l", "tall", images=MAX_IMAGES, priority=Priority.LOW)
    assert simulation.run() == ["h", "l" * MAX_IMAGES]


def test_deadlines_go_first_but_not_past_one_that_has_waited_longer_than_the_patience() -> None:
    simulation = Simulation(max_images=1)
    simulation.add("a")
    simulation.add("b", within_s=PATIENCE_S / 2)
    simulation.now_s = PATIENCE_S / 4
    simulation.add("c", within_s=PATIENCE_S)
    assert simulation.run() == ["b", "a", "c"]


def test_a_deadline_within_the_delay_does_not_wait() -> None:
    simulation = Simulation(WAITING)
    simulation.add("a", within_s=DELAY_S)
    assert simulation.names() == "a"


def test_expired_jobs_are_told_once_and_removed_ones_forgotten() -> None:
    simulation = Simulation()
    simulation.add("a", within_s=1.0)
    simulation.add("b", within_s=1.0)
    simulation.add("c")
    simulation.batcher.remove("b")
    simulation.batcher.remove("unknown")
    assert [late.job_id for late in simulation.batcher.expired(1.0)] == ["a"]
    assert simulation.batcher.expired(9.0) == ()
    assert tuple(simulation.batcher.order()) == ("a", "c")
    assert (simulation.batcher.ahead_count("c"), len(simulation.batcher)) == (1, 2)


def test_a_batch_that_was_run_takes_nothing_of_a_job_that_left_meanwhile() -> None:
    simulation = Simulation()
    simulation.add("a")
    simulation.add("b", images=2)
    simulation.batcher.remove("a")
    simulation.batcher.commit(WindowBatch((ImagePlace("a", 0), ImagePlace("b", 0))))
    assert simulation.run() == ["b"]
    assert simulation.batches[0].images[0].image_index == 1


def test_a_lowered_limit_holds_also_against_preferred_sizes() -> None:
    simulation = Simulation(PREFERRING)
    for name in "abcd":
        simulation.add(name)
    simulation.batcher.max_images = 3
    assert simulation.names() == "ab"
    simulation.batcher.max_images = 1
    assert simulation.names() == "a"


arrivals = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {
                "key": st.sampled_from("ab"),
                "images": st.integers(1, 11),
                "alone": st.booleans(),
                "priority": st.sampled_from(list(Priority)),
                "within_s": st.none() | st.floats(0.1, 100.0),
            }
        ),
        st.floats(0, 1),
    ),
    max_size=12,
)
batchings = st.builds(
    DynamicBatching,
    preferred_batch_sizes=st.lists(st.integers(1, MAX_IMAGES), max_size=3).map(tuple),
    max_queue_delay_s=st.floats(0, 2),
)


@settings(max_examples=50)
@given(arrivals, batchings)
def test_every_image_runs_once_with_its_like_and_within_the_limit(
    wanted: list[tuple[dict[str, object], float]], batching: DynamicBatching
) -> None:
    simulation = Simulation(batching)
    jobs: dict[str, dict[str, object]] = {}
    for number, (arguments, pause_s) in enumerate(wanted):
        jobs[str(number)] = arguments
        simulation.add(str(number), **arguments)
        simulation.now_s += pause_s
        if pause_s > 0.5:
            simulation.step()
    simulation.run()
    run = [image for batch in simulation.batches for image in batch.images]
    assert sorted(run, key=str) == sorted(
        (ImagePlace(name, k) for name, one in jobs.items() for k in range(one["images"])), key=str
    )
    assert len(simulation.batcher) == 0
    for batch in simulation.batches:
        alike = {(jobs[one.job_id]["key"], jobs[one.job_id]["alone"]) for one in batch.images}
        assert len(alike) == 1
        assert len(batch.images) <= MAX_IMAGES
        if any(jobs[one.job_id]["alone"] for one in batch.images):
            assert len(batch.images) == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), min_size=1), batchings)
def test_an_idle_device_makes_nobody_wait_longer_than_the_delay(
    wanted: list[tuple[str, float]], batching: DynamicBatching
) -> None:
    simulation = Simulation(batching)
    arrived: dict[str, float] = {}
    for number, (key, pause_s) in enumerate(wanted):
        arrived[str(number)] = simulation.now_s
        simulation.add(str(number), key)
        idle_from_s = simulation.now_s
        planned = simulation.plan()
        if isinstance(planned, WaitUntil):
            waiting = tuple(simulation.batcher.order())
            oldest_s = min(arrived[name] for name in waiting)
            assert idle_from_s < planned.until_s == oldest_s + batching.max_queue_delay_s
            pause_s = min(pause_s, planned.until_s - simulation.now_s)
        else:
            simulation.step()
        simulation.now_s += pause_s
    simulation.run()
    assert sum(1 for _ in itertools.chain(*(b.images for b in simulation.batches))) == len(wanted)
