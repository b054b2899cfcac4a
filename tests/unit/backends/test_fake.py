"""The fake backend takes the time that its config says."""

from __future__ import annotations

import pytest

from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory, fake_model
from darkroom_server.domain.fake_pace import FakePace
from tests.unit.specs import image_spec

PACE = FakePace(step_s_by_rows=((1, 0.1), (2, 0.12), (8, 0.3)), image_s=0.05, pixel_count=64 * 64)


@pytest.mark.parametrize(("rows", "step_s"), [(1, 0.1), (2, 0.12), (5, 0.21), (8, 0.3), (16, 0.6)])
def test_steps_take_what_the_curve_has_and_go_on_in_proportion(rows: int, step_s: float) -> None:
    assert step_of(PACE, rows, 64) == pytest.approx(step_s, rel=1e-3)


def test_larger_images_take_in_proportion_to_their_pixels() -> None:
    assert step_of(PACE, 1, 128) == pytest.approx(0.4)
    assert step_of(FakePace(step_s=0.1), 1, 128) == pytest.approx(0.1)


def test_an_image_takes_its_time_besides_the_steps() -> None:
    model, slept = made(PACE)
    model.decode(rows_of(1, 128)[0])
    assert slept == [pytest.approx(0.2)]


def step_of(pace: FakePace, rows: int, size_px: int) -> float:
    model, slept = made(pace)
    model.denoise(rows_of(rows, size_px))
    (step_s,) = slept
    return step_s


def made(pace: FakePace) -> tuple[FakeStepModel, list[float]]:
    model, slept = fake_model(pace), list[float]()
    model.sleep = slept.append
    return model, slept


def rows_of(count: int, size_px: int) -> list[FakeTrajectory]:
    spec = image_spec(width_px=size_px, height_px=size_px)
    return [FakeTrajectory(spec, 0) for _ in range(count)]
