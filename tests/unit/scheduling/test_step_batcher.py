from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.domain.jobs import Priority
from darkroom_server.scheduling.step_batcher import Step, StepBatcher
from tests.unit.specs import job


def run_to_end(batcher: StepBatcher, step_counts: dict[str, int]) -> list[Step]:
    taken: list[Step] = []
    done: dict[tuple[str, int], int] = {}
    while (step := batcher.plan()) is not None:
        key = (step.job_id, step.image_index)
        done[key] = done.get(key, 0) + 1
        batcher.commit(step, finished=done[key] == step_counts[step.job_id])
        taken.append(step)
    return taken


def test_jobs_of_equal_priority_run_in_the_order_they_came() -> None:
    batcher = StepBatcher()
    batcher.add(job("first", step_count=2))
    batcher.add(job("second", step_count=1))
    order = [step.job_id for step in run_to_end(batcher, {"first": 2, "second": 1})]
    assert order == ["first", "first", "second"]


def test_a_higher_priority_goes_ahead_at_the_next_step() -> None:
    batcher = StepBatcher()
    batcher.add(job("normal", step_count=3))
    step = batcher.plan()
    assert step == Step("normal", 0)
    batcher.commit(step, finished=False)
    batcher.add(job("high", priority=Priority.HIGH))
    assert batcher.plan() == Step("high", 0)
    assert batcher.ahead_count("normal") == 1


def test_images_of_one_request_advance_side_by_side() -> None:
    batcher = StepBatcher()
    batcher.add(job("a", step_count=2, seeds=(1, 2, 3)))
    images = [step.image_index for step in run_to_end(batcher, {"a": 2})]
    assert images == [0, 1, 2, 0, 1, 2]


def test_an_image_may_take_more_evaluations_than_steps() -> None:
    batcher = StepBatcher()
    batcher.add(job("a", step_count=2))
    assert len(run_to_end(batcher, {"a": 3})) == 3


def test_removed_jobs_are_never_planned() -> None:
    batcher = StepBatcher()
    batcher.add(job("a"))
    batcher.add(job("b"))
    batcher.remove("a")
    batcher.remove("unknown")
    assert batcher.plan() == Step("b", 0)
    assert len(batcher) == 1


def test_only_jobs_past_their_deadline_expire() -> None:
    batcher = StepBatcher()
    batcher.add(job("never"))
    batcher.add(job("later", deadline_s=11.0))
    batcher.add(job("now", deadline_s=10.0))
    assert [late.job_id for late in batcher.expired(10.0)] == ["now"]


jobs = st.lists(
    st.tuples(
        st.sampled_from(list(Priority)),
        st.integers(min_value=1, max_value=4),
        st.integers(min_value=1, max_value=3),
    ),
    max_size=8,
)


@given(jobs)
def test_every_image_gets_all_its_steps_and_priorities_never_wait(
    wanted: list[tuple[Priority, int, int]],
) -> None:
    batcher = StepBatcher()
    for number, (priority, step_count, image_count) in enumerate(wanted):
        seeds = tuple(range(image_count))
        batcher.add(job(str(number), priority=priority, step_count=step_count, seeds=seeds))
    assert batcher.plan() == batcher.plan()
    taken = run_to_end(batcher, {str(n): steps for n, (_, steps, _) in enumerate(wanted)})
    assert len(taken) == sum(steps * images for _, steps, images in wanted)
    priorities = [wanted[int(step.job_id)][0] for step in taken]
    assert priorities == sorted(priorities, reverse=True)
    assert len(batcher) == 0
