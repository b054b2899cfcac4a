"""What is loaded and let go, as a table; and what a row of plans comes to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import UpdatePolicy
from darkroom_server.lifecycle.policy import Edition, Live, Plan, plan_update

S = VersionState
OLD, NEW, OTHER = Edition(1, "a"), Edition(2, "b"), Edition(1, "c")


def live(edition: Edition, state: VersionState = S.READY, *, retry_due: bool = False) -> Live:
    return Live(edition=edition, state=state, retry_due=retry_due)


@pytest.mark.parametrize(
    ("wanted", "now", "beside", "in_place"),
    [
        pytest.param([NEW], [], Plan(load=(NEW,)), Plan(load=(NEW,)), id="nothing-yet"),
        pytest.param([NEW], [live(NEW)], Plan(), Plan(), id="all-is-there"),
        pytest.param(
            [NEW], [live(OLD)], Plan(load=(NEW,)), Plan(wait=(NEW,), leave=(OLD,)), id="update"
        ),
        pytest.param(
            [OTHER],
            [live(OLD)],
            Plan(load=(OTHER,)),
            Plan(wait=(OTHER,), leave=(OLD,)),
            id="other-files-in-the-same-version",
        ),
        pytest.param([NEW], [live(OLD), live(NEW, S.LOADING)], Plan(), Plan(), id="new-loads"),
        pytest.param([NEW], [live(OLD), live(NEW, S.FAILED)], Plan(), Plan(), id="new-failed"),
        pytest.param(
            [NEW],
            [live(OLD), live(NEW, S.FAILED, retry_due=True)],
            Plan(load=(NEW,)),
            Plan(load=(NEW,)),
            id="new-failed-a-while-ago",
        ),
        pytest.param(
            [NEW], [live(OLD), live(NEW)], Plan(leave=(OLD,)), Plan(leave=(OLD,)), id="new-serves"
        ),
        pytest.param(
            [NEW],
            [live(OLD, S.LOADING)],
            Plan(load=(NEW,), leave=(OLD,)),
            Plan(load=(NEW,), leave=(OLD,)),
            id="old-had-not-come-up",
        ),
        pytest.param(
            [NEW],
            [live(OLD, S.FAILED)],
            Plan(load=(NEW,), leave=(OLD,)),
            Plan(load=(NEW,), leave=(OLD,)),
            id="old-had-failed",
        ),
        pytest.param(
            [NEW],
            [live(OLD, S.UNAVAILABLE)],
            Plan(load=(NEW,)),
            Plan(wait=(NEW,), leave=(OLD,)),
            id="old-is-being-restarted",
        ),
        pytest.param([], [live(OLD)], Plan(leave=(OLD,)), Plan(leave=(OLD,)), id="none-wanted"),
        pytest.param([OLD, NEW], [live(OLD)], Plan(load=(NEW,)), Plan(load=(NEW,)), id="one-more"),
    ],
)
def test_plan(wanted: list[Edition], now: list[Live], beside: Plan, in_place: Plan) -> None:
    assert plan_update(wanted, now, policy=UpdatePolicy.AVAILABILITY) == beside
    assert plan_update(wanted, now, policy=UpdatePolicy.RESOURCE) == in_place


EDITIONS = st.builds(Edition, st.integers(1, 3), st.sampled_from("ab"))


@given(
    wanted=st.lists(EDITIONS, unique=True),
    states=st.dictionaries(
        EDITIONS, st.sampled_from([S.LOADING, S.READY, S.UNAVAILABLE, S.FAILED])
    ),
    policy=st.sampled_from(UpdatePolicy),
)
def test_any_state_comes_to_what_is_wanted_and_never_gives_up_the_last_that_serves(
    wanted: list[Edition], states: dict[Edition, VersionState], policy: UpdatePolicy
) -> None:
    now = dict(states)
    for _ in range(4):
        plan = plan_update(
            wanted, [live(edition, state) for edition, state in now.items()], policy=policy
        )
        assert set(plan.load).isdisjoint(plan.wait)
        assert {*plan.load, *plan.wait} <= set(wanted)
        assert set(plan.leave).isdisjoint(wanted)
        left = {edition: state for edition, state in now.items() if edition not in plan.leave}
        served = S.READY in now.values()
        if served and wanted and policy is UpdatePolicy.AVAILABILITY:
            assert S.READY in left.values()
        now = left | dict.fromkeys((*plan.load, *plan.wait), S.LOADING)
        # What loads comes up, and what failed is mended.
        now = dict.fromkeys(now, S.READY)
    assert set(now) == set(wanted)
