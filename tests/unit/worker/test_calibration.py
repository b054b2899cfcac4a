from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory
from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.worker.calibration import FILE_NAME, Calibration
from darkroom_server.worker.messages import Report
from darkroom_server.worker.step_runner import step_loop
from tests.unit.example_models import SDXL
from tests.unit.worker.loop_bench import shared

CONDITIONS = {"device": "one"}
INFO = replace(SDXL, reproducibility=Reproducibility.TOLERANCE, max_batch_size=4)


class Timed(FakeStepModel):
    """Steps that take a second, and a half more for each row beyond the first."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.evaluated: list[int] = []

    def clock(self) -> float:
        return self.now_s

    def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
        self.evaluated.append(len(inputs))
        self.now_s += 0.5 + 0.5 * len(inputs)
        return super().denoise(inputs)


@pytest.fixture
def model() -> Timed:
    return Timed()


def calibrate(model: Timed, folder: Path, info: ModelInfo = INFO, **conditions: str) -> StepCosts:
    return calibration(model, folder, info, **conditions).finish()


def calibration(
    model: Timed, folder: Path, info: ModelInfo = INFO, **conditions: str
) -> Calibration:
    return Calibration(
        model,
        info,
        path=folder / FILE_NAME,
        conditions=CONDITIONS | conditions,
        clock=model.clock,
    )


def default_key(info: ModelInfo) -> object:
    return ((info.defaults.width_px, info.defaults.height_px), False)


def test_steps_are_measured_by_rows(model: Timed, tmp_path: Path) -> None:
    costs = calibrate(model, tmp_path)
    assert costs.measured()[default_key(INFO)] == {1: 1.0, 2: 1.5, 4: 2.5}
    assert costs.knee(default_key(INFO)) == 4


def test_a_second_start_measures_nothing(model: Timed, tmp_path: Path) -> None:
    info = replace(INFO, max_batch_size=1)
    first = calibrate(model, tmp_path, info)
    again = Timed()
    assert calibrate(again, tmp_path, info).measured() == first.measured()
    assert (len(first.measured()), again.evaluated) == (2, [])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"conditions": {"device": "one"}}'])
def test_a_damaged_file_is_measured_anew(model: Timed, tmp_path: Path, damage: str) -> None:
    (tmp_path / FILE_NAME).write_text(damage)
    assert calibrate(model, tmp_path).knows(default_key(INFO))
    assert json.loads((tmp_path / FILE_NAME).read_text())["conditions"] == CONDITIONS


def test_another_device_is_measured_anew(model: Timed, tmp_path: Path) -> None:
    calibrate(model, tmp_path)
    again = Timed()
    calibrate(again, tmp_path, device="other")
    assert again.evaluated[:3] == [1, 1, 1]


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(model: Timed, tmp_path: Path) -> None:
    assert calibrate(model, tmp_path / "missing").knows(default_key(INFO))


def test_no_measurement_is_begun_after_the_budget(model: Timed, tmp_path: Path) -> None:
    calibrate(model, tmp_path)
    # One size took 15 seconds, more than the budget.
    assert len(json.loads((tmp_path / FILE_NAME).read_text())["step_s"]) == 1


def test_a_part_is_measured_before_serving_and_the_rest_turn_by_turn(
    model: Timed, tmp_path: Path
) -> None:
    measuring = calibration(model, tmp_path)
    measuring.spend(0.5)
    assert model.evaluated == [1, 1, 1]
    assert measuring.costs.measured()[default_key(INFO)] == {1: 1.0}
    assert not measuring.is_done
    measuring.advance()
    assert model.evaluated == [1, 1, 1, 2, 2, 2]
    assert measuring.costs.measured()[default_key(INFO)] == {1: 1.0, 2: 1.5}
    assert not (tmp_path / FILE_NAME).exists()
    assert measuring.finish() is measuring.costs
    assert measuring.is_done
    assert json.loads((tmp_path / FILE_NAME).read_text())["conditions"] == CONDITIONS


def test_a_loop_measures_what_is_left_while_it_has_nothing_to_do(
    model: Timed, tmp_path: Path
) -> None:
    measuring = calibration(model, tmp_path)
    reports: list[Report] = []
    loop = step_loop(
        model,
        reports.append,
        max_batch_size=INFO.max_batch_size,
        shared=SharedRows(is_open=True),
        costs=measuring.costs,
        calibration=measuring,
        clock=model.clock,
    )
    loop.post(shared("a", step_count=2))
    loop.tick()
    loop.tick()
    assert model.evaluated == [1, 1]  # the job's own steps
    loop.tick()
    assert model.evaluated == [1, 1, 1, 1, 1]
    while not measuring.is_done:
        loop.tick()
    assert (tmp_path / FILE_NAME).exists()
    loop.run_to_end()


class Failing(Timed):
    """A model that takes no step."""

    def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
        raise RuntimeError(str(len(inputs)))


def test_a_model_that_takes_no_step_is_not_measured_again(tmp_path: Path) -> None:
    measuring = calibration(Failing(), tmp_path)
    measuring.advance()
    assert measuring.is_done
    assert measuring.finish().measured() == {}


def test_a_model_that_only_fills_is_measured_by_a_fill(model: Timed, tmp_path: Path) -> None:
    info = replace(INFO, tasks=frozenset({Task.FILL}))
    assert calibrate(model, tmp_path, info).knows(default_key(info))


class Small(Timed):
    """More than four rows do not fit; batches gain all or nothing."""

    def __init__(self, *, gains: bool, row_s: float = 0.01) -> None:
        super().__init__()
        self.gains = gains
        self.row_s = row_s

    def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
        self.evaluated.append(len(inputs))
        if len(inputs) > 4:
            raise MemoryError
        self.now_s += self.row_s * (1 if self.gains else len(inputs))
        return FakeStepModel.denoise(self, inputs)


@pytest.mark.parametrize(
    ("row_s", "most"),
    [
        pytest.param(0.01, 4, id="short-steps-are-measured-once-more"),
        pytest.param(0.2, 2, id="long-ones-are-not"),
    ],
)
def test_no_larger_batch_is_measured_once_one_does_not_pay(
    tmp_path: Path, row_s: float, most: int
) -> None:
    model = Small(gains=False, row_s=row_s)
    costs = calibrate(model, tmp_path, replace(INFO, max_batch_size=32))
    assert max(model.evaluated) == most
    assert costs.knee(default_key(INFO)) == 1


def test_rows_that_do_not_fit_into_memory_are_never_used(tmp_path: Path) -> None:
    info = replace(INFO, max_batch_size=32)
    assert calibrate(Small(gains=True), tmp_path, info).knee(default_key(INFO)) == 4
    again = Small(gains=True)
    assert calibrate(again, tmp_path, info).knee(default_key(INFO)) == 4
    assert again.evaluated == []
