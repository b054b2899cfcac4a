from __future__ import annotations

import pytest

from darkroom_server.scheduling.run_costs import RunCosts
from darkroom_server.scheduling.run_kinds import RunKind
from darkroom_server.scheduling.window_batcher import Waiting
from tests.unit.specs import image_spec

#: A step of one image takes a second, of four two.
STEP_COUNT = 10
ONE_S, FOUR_S = 1.0 * STEP_COUNT, 2.0 * STEP_COUNT


def learnt() -> RunCosts:
    costs = RunCosts(max_images=4)
    spec = image_spec(step_count=STEP_COUNT)
    costs.learn(spec, 1, ONE_S)
    costs.learn(spec, 4, FOUR_S)
    return costs


def waiting(*, alone: bool = False, images: int = 1) -> Waiting:
    return Waiting(RunKind.of(image_spec()), alone, images * STEP_COUNT)


def test_a_run_costs_in_proportion_to_its_steps_and_pixels() -> None:
    costs = learnt()
    assert costs.run_s(image_spec(step_count=5), 1) == pytest.approx(ONE_S / 2)
    wide = image_spec(step_count=5, width_px=32)
    assert costs.run_s(wide, 1) == pytest.approx(ONE_S)


def test_nothing_is_known_before_the_first_run() -> None:
    costs = RunCosts(max_images=4)
    assert costs.run_s(image_spec(), 1) is None
    assert costs.estimate_s(image_spec(), alone=False, ahead=(), running_s=0.0) is None


@pytest.mark.parametrize(
    ("images", "alone", "ahead", "running_s", "estimated_s"),
    [
        pytest.param(1, False, (), 0.0, ONE_S, id="idle"),
        pytest.param(1, False, (), 3.0, ONE_S + 3.0, id="behind-what-runs"),
        pytest.param(5, False, (), 0.0, FOUR_S + ONE_S, id="in-two-runs"),
        pytest.param(2, True, (), 0.0, 2 * ONE_S, id="image-by-image"),
        pytest.param(
            1, False, (waiting(), waiting()), 0.0, FOUR_S / 2 + ONE_S, id="behind-half-a-run"
        ),
        pytest.param(
            1, False, (waiting(alone=True, images=2),), 0.0, 3 * ONE_S, id="behind-one-alone"
        ),
    ],
)
def test_a_request_takes_what_runs_and_waits_before_it_and_its_own_time(
    images: int, alone: bool, ahead: tuple[Waiting, ...], running_s: float, estimated_s: float
) -> None:
    spec = image_spec(step_count=STEP_COUNT, seeds=tuple(range(images)))
    told = learnt().estimate_s(spec, alone=alone, ahead=ahead, running_s=running_s)
    assert told == pytest.approx(estimated_s)
