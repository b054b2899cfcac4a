"""A model whose pixels can be worked out by hand: after k steps every byte is (seed + k) mod 256.

For a Fill request the same holds where the mask is white; elsewhere the image shows through. In
image to image, the number is added to every byte of the image, mod 256. In an edit, i times the
first byte of reference image i is added to the number, counted from 1. It
stands in for a real model wherever something other than the model is tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

import numpy as np

from darkroom_server.backends.base import CompileCounts, ImageArray, Painter, SharingPlan
from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.fake_pace import FakePace
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import Dtype

#: A prompt that makes the fake fail in `denoise`.
FAILING_PROMPT = "fail"
#: A prompt after which the fake's device is unusable.
POISONING_PROMPT = "poison"


class AcceleratorError(RuntimeError):
    """Called as torch calls what a lost device raises."""


class FakeTrajectory:
    """One image of the fake model."""

    def __init__(self, spec: ImageSpec, image_index: int) -> None:
        self.spec = spec
        self.seed = spec.seeds[image_index]
        self.step_count = spec.step_count
        self.completed_step_count = 0
        self.is_filtered = False

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.completed_step_count >= self.step_count


#: Seconds of a step by rows, against one of a single row: nothing is lost by more rows, something
#: is, and all of it.
FLAT: dict[int, float] = {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}
RISING: dict[int, float] = {1: 1.0, 2: 1.11, 4: 1.28, 8: 1.58}
SATURATED: dict[int, float] = {1: 1.0, 2: 1.96, 4: 3.9, 8: 7.7}


#: More rows than any step has.
BEYOND_ROWS = 1 << 16


def stretch(curve: Mapping[int, float], row_count: int) -> float:
    """How many times a step of one row takes; between what the curve has, on a straight line."""
    rows = sorted(curve)
    return float(np.interp(row_count, rows, [curve[one] for one in rows]))


def fake_model(pace: FakePace) -> FakeStepModel:
    """The model that a config describes."""
    curve = dict(pace.step_s_by_rows)
    if not curve:
        return FakeStepModel(step_s=pace.step_s, pace=pace)
    most = max(curve)
    # Beyond what is known, in proportion.
    curve.setdefault(BEYOND_ROWS, curve[most] * BEYOND_ROWS / most)
    return FakeStepModel(step_s=1.0, curve=curve, pace=pace)


class FakeStepModel:
    """A `StepModel` without weights.

    Each step takes `step_s` by the given sleep, and with more rows longer, by the `curve`; with
    other sizes, and for an image besides its steps, what the `pace` says.
    """

    def __init__(
        self,
        *,
        step_s: float = 0.0,
        curve: Mapping[int, float] = FLAT,
        pace: FakePace | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pace = pace or FakePace()
        self._step_s = step_s
        self._curve = curve
        self.sleep = sleep

    def _step_time_s(self, inputs: list[FakeTrajectory]) -> float:
        scale = self._scale(inputs[0].spec) if inputs else 1.0
        return scale * self._step_s * stretch(self._curve, len(inputs))

    def _scale(self, spec: ImageSpec) -> float:
        return self._pace.scale(spec.width_px * spec.height_px)

    def batch_key(self, spec: ImageSpec) -> Hashable:
        """The size, as for real models."""
        shown = tuple((one.width_px, one.height_px) for one in spec.reference_images)
        return (spec.width_px, spec.height_px, *shown)

    def rows(self, spec: ImageSpec) -> int:
        """Two with guidance above 1, as real models need."""
        return 2 if spec.guidance_scale > 1 else 1

    def evaluations(self, spec: ImageSpec) -> int:
        """One a step."""
        return spec.step_count

    def prepared(self, spec: ImageSpec, wait_s: float = 0.0) -> bool:
        """It needs nothing."""
        del spec, wait_s
        return True

    def encode(self, spec: ImageSpec) -> None:
        """Nothing to encode."""

    def cut_fields(self, spec: ImageSpec) -> tuple[str, ...]:
        """It reads none, and so cuts none."""
        del spec
        return ()

    def begin(self, spec: ImageSpec, encoded: None, image_index: int) -> FakeTrajectory:
        """A fresh trajectory."""
        del encoded
        return FakeTrajectory(spec, image_index)

    def snapshot(self, trajectory: FakeTrajectory) -> bytes:
        """The steps done."""
        return trajectory.completed_step_count.to_bytes(8)

    def restore(self, trajectory: FakeTrajectory, state: bytes) -> None:
        """Continues after this number of steps."""
        trajectory.completed_step_count = int.from_bytes(state)

    def gather(self, trajectories: Sequence[FakeTrajectory]) -> list[FakeTrajectory]:
        """The trajectory of each row."""
        return [one for one in trajectories for _ in range(self.rows(one.spec))]

    def denoise(self, inputs: list[FakeTrajectory]) -> list[int]:
        """One step; raises GenerationFailed or AcceleratorError for the prompts that ask for it."""
        if self._step_s:
            self.sleep(self._step_time_s(inputs))
        if any(one.spec.prompt == FAILING_PROMPT for one in inputs):
            raise GenerationFailed("The fake model was asked to fail.")
        if any(one.spec.prompt == POISONING_PROMPT for one in inputs):
            raise AcceleratorError("the fake device was asked to fail")
        return [one.completed_step_count + 1 for one in inputs]

    def prove(
        self, inputs: list[FakeTrajectory], alone: Sequence[list[int]]
    ) -> Iterator[bool | None]:
        """Equal: no row depends on another. Fails as `denoise` does."""
        yield None
        together = self.denoise(inputs)
        yield together == [count for one in alone for count in one]

    def sharing_plan(self) -> SharingPlan:
        """Nothing is computed by image."""
        return {}

    def use_sharing_plan(self, plan: SharingPlan) -> None:
        """There is none to take over; raises KeyError for any entry."""
        if plan:
            raise KeyError(next(iter(plan)))

    def scatter(self, trajectory: FakeTrajectory, outputs: list[int], first_row: int) -> None:
        """Takes over the step count."""
        trajectory.completed_step_count = outputs[first_row]

    def wait(self) -> None:
        """Nothing is under way."""

    def painter(self, trajectories: Sequence[FakeTrajectory]) -> Painter:
        """Flat pictures, an eighth as wide, of the values reached so far."""
        reached = [
            (one.spec.height_px // 8, one.spec.width_px // 8, one.seed + one.completed_step_count)
            for one in trajectories
        ]
        return lambda: [
            np.full((height, width, 3), value % 256, dtype=np.uint8)
            for height, width, value in reached
        ]

    def decode(self, trajectory: FakeTrajectory) -> ImageArray:
        """A flat picture: uint8 [height, width, 3]."""
        spec = trajectory.spec
        if self._pace.image_s:
            self.sleep(self._scale(spec) * self._pace.image_s)
        shown = sum(i * one.data[0] for i, one in enumerate(spec.reference_images, start=1))
        value = (trajectory.seed + trajectory.completed_step_count + shown) % 256
        made = np.full((spec.height_px, spec.width_px, 3), value, dtype=np.uint8)
        if spec.source is not None:
            source = np.frombuffer(spec.source.image.data, dtype=np.uint8).reshape(made.shape)
            return source + made
        if spec.fill is None:
            return made
        image = np.frombuffer(spec.fill.image.data, dtype=np.uint8).reshape(made.shape)
        mask = np.frombuffer(spec.fill.mask.data, dtype=np.uint8).reshape(made.shape[:2])
        return np.where(mask[:, :, None] == 255, made, image)

    def memory_bytes(self) -> int:
        """None to speak of."""
        return 0

    def peak_memory_bytes(self) -> int:
        """0: there is no device."""
        return 0

    def device_name(self) -> str:
        """Nothing."""
        return "fake"

    def dtype(self) -> Dtype:
        """A name is needed; nothing is computed."""
        return Dtype.FP32

    def end_warm_up(self) -> None:
        """Nothing to compile."""

    def compile_counts(self) -> CompileCounts:
        """Nothing is compiled."""
        return CompileCounts()
