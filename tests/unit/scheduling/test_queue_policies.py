"""Levels of priority and queue policies of requests that run whole, by Triton's rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.domain.dynamic_batching import DynamicBatching, QueuePolicy, TimeoutAction
from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.window_batcher import WindowBatch, WindowBatcher
from tests.unit.specs import job

TIMEOUT_S = 5.0
REJECTING = DynamicBatching(default_queue_policy=QueuePolicy(timeout_s=TIMEOUT_S))
DELAYING = DynamicBatching(
    default_queue_policy=QueuePolicy(timeout_action=TimeoutAction.DELAY, timeout_s=TIMEOUT_S)
)


def batcher_of(batching: DynamicBatching, *names: str, max_images: int = 1) -> WindowBatcher:
    """A batcher with a job of the name at second 0, 1, 2 ...; capitals have high priority."""
    batcher = WindowBatcher(max_images, batching)
    for now_s, name in enumerate(names):
        priority = Priority.HIGH if name.isupper() else Priority.NORMAL
        batcher.add(job(name, priority=priority), "key", now_s)
    return batcher


def planned(batcher: WindowBatcher, now_s: float) -> WindowBatch:
    batch = batcher.plan(now_s)
    assert isinstance(batch, WindowBatch)
    return batch


@pytest.mark.parametrize(
    ("levels", "default", "of_high", "of_normal", "of_low"),
    [
        pytest.param(3, 2, 1, 2, 3, id="as-without-levels"),
        pytest.param(1, 1, 1, 1, 1, id="one-level"),
        pytest.param(2, 1, 1, 1, 2, id="only-low-ones-wait"),
        pytest.param(2, 2, 1, 2, 2, id="only-high-ones-pass"),
        pytest.param(9, 4, 1, 4, 9, id="many-levels"),
    ],
)
def test_requests_have_the_first_the_default_and_the_last_level(
    levels: int, default: int, of_high: int, of_normal: int, of_low: int
) -> None:
    batching = DynamicBatching(priority_levels=levels, default_priority_level=default)
    assert batching.level(Priority.HIGH) == of_high
    assert batching.level(Priority.NORMAL) == of_normal
    assert batching.level(Priority.LOW) == of_low


def test_requests_of_one_level_go_in_the_order_in_which_they_came() -> None:
    batching = DynamicBatching(priority_levels=1, default_priority_level=1)
    assert tuple(batcher_of(batching, "a", "B", "c").order()) == ("a", "B", "c")
    assert tuple(batcher_of(DynamicBatching(), "a", "B", "c").order()) == ("B", "a", "c")


@pytest.mark.parametrize(
    ("batching", "now_s", "rejected", "order"),
    [
        pytest.param(REJECTING, 4.9, "", "abc", id="in-time"),
        pytest.param(REJECTING, 5.0, "a", "abc", id="rejected-at-the-timeout"),
        pytest.param(REJECTING, 9.0, "abc", "abc", id="all-rejected"),
        pytest.param(DELAYING, 4.9, "", "abc", id="not-yet-delayed"),
        pytest.param(DELAYING, 5.0, "", "bca", id="delayed-behind-the-others"),
        pytest.param(DELAYING, 9.0, "", "abc", id="all-delayed-in-their-order"),
        pytest.param(DynamicBatching(), 1e6, "", "abc", id="without-a-timeout"),
    ],
)
def test_what_has_waited_too_long_is_turned_away_or_lets_others_pass(
    batching: DynamicBatching, now_s: float, rejected: str, order: str
) -> None:
    batcher = batcher_of(batching, "a", "b", "c")
    assert "".join(late.job_id for late in batcher.timed_out(now_s)) == rejected
    assert "".join(batcher.order()) == order
    assert batcher.timed_out(now_s) == ()


def test_a_delayed_request_is_passed_by_no_lower_level() -> None:
    batcher = batcher_of(DELAYING, "A", "b")
    batcher.timed_out(TIMEOUT_S)
    assert tuple(batcher.order()) == ("A", "b")


def test_what_runs_has_not_waited_too_long_though_images_of_it_still_wait() -> None:
    batcher = WindowBatcher(2, REJECTING)
    batcher.add(job("a", seeds=(1, 2, 3)), "key", 0.0)
    batch = planned(batcher, 0.0)
    batcher.begin(batch)
    assert batcher.timed_out(TIMEOUT_S) == ()
    batcher.commit(batch)
    assert batcher.timed_out(2 * TIMEOUT_S) == ()
    assert len(planned(batcher, 2 * TIMEOUT_S).images) == 1


def test_a_request_that_others_would_cost_its_time_does_not_wait_for_them() -> None:
    batching = replace(REJECTING, max_queue_delay_s=TIMEOUT_S)
    assert planned(batcher_of(batching, "a", max_images=4), 0.0)


def test_a_level_has_its_own_policy() -> None:
    own = QueuePolicy(timeout_s=1.0, max_queue_size=1)
    batching = replace(REJECTING, queue_policies=((1, own),))
    batcher = batcher_of(batching, "A", "b")
    assert not batcher.has_room(job("C", priority=Priority.HIGH))
    assert batcher.has_room(job("c"))
    assert [late.job_id for late in batcher.timed_out(1.0)] == ["A"]


def test_a_full_queue_has_room_again_when_one_of_it_begins() -> None:
    batching = DynamicBatching(default_queue_policy=QueuePolicy(max_queue_size=2))
    batcher = batcher_of(batching, "a", "b")
    assert not batcher.has_room(job("c"))
    batcher.begin(planned(batcher, 2.0))
    assert batcher.has_room(job("c"))


@given(
    st.lists(st.sampled_from(list(Priority)), min_size=1, max_size=8),
    st.integers(1, 5).flatmap(lambda levels: st.tuples(st.just(levels), st.integers(1, levels))),
    st.sampled_from([TimeoutAction.REJECT, TimeoutAction.DELAY]),
)
def test_every_request_runs_or_is_told_that_it_does_not(
    priorities: list[Priority], levels: tuple[int, int], action: TimeoutAction
) -> None:
    policy = QueuePolicy(timeout_action=action, timeout_s=1.5)
    batching = DynamicBatching(
        priority_levels=levels[0], default_priority_level=levels[1], default_queue_policy=policy
    )
    batcher = WindowBatcher(1, batching)
    for number, priority in enumerate(priorities):
        batcher.add(job(str(number), priority=priority), "key", 0.0)
    ended: list[str] = []
    now_s = 0.0
    while len(batcher):
        for late in batcher.timed_out(now_s):
            ended.append(late.job_id)
            batcher.remove(late.job_id)
        if len(batcher):
            batch = planned(batcher, now_s)
            batcher.begin(batch)
            batcher.commit(batch)
            ended.append(batch.images[0].job_id)
        now_s += 1.0
    assert sorted(ended) == sorted(map(str, range(len(priorities))))
