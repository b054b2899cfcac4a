"""What a step costs on this device, measured and kept beside the version.

Without it the first requests would be scheduled by guesses: how many rows saturate the device, and
how long a request takes. A part is measured before serving, the rest while nothing is to be done.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic

import structlog

from darkroom_server.backends.base import (
    Encoded,
    Inputs,
    OneTrajectory,
    Outputs,
    StepModel,
    StepShapes,
)
from darkroom_server.domain.errors import DarkroomError, OutOfDeviceMemory
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from darkroom_server.domain.models import ModelInfo
from darkroom_server.kept_files import PUBLIC, replace_file
from darkroom_server.scheduling.step_costs import Curve, StepCosts, bucket_of, worthwhile
from darkroom_server.worker.failures import attempt
from darkroom_server.worker.trial import trial_spec

log = structlog.get_logger(__name__)

#: Kept in the version's folder; a name with a dot is no part of the version.
FILE_NAME = ".step_costs.json"
#: No file of a few curves is nearly as long; one that is cut here is damaged.
_MAX_FILE_BYTES = 1 << 20
#: A measurement under way is finished; no other is begun after this long.
BUDGET_S = 10.0
#: One row may be cheaper than its share of two. So where twice the rows do not pay, four times are
#: measured too, unless a step takes longer than this.
SHORT_STEP_S = 0.25
#: Each step is taken this often after one that warms up; the quickest counts.
REPEATS = 2


class Calibration(Generic[Encoded, OneTrajectory, Inputs, Outputs]):
    """Measures the step costs of the default size and of half its edge, a few rows at a time.

    What the file has that was made under the same conditions is not measured. Bound to the model
    thread; `costs` may have other readers, who hold `lock`.
    """

    def __init__(
        self,
        model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
        info: ModelInfo,
        *,
        path: Path,
        conditions: dict[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.costs = StepCosts(max_rows=info.max_batch_size)
        self.lock = threading.RLock()
        self._model = model
        self._info = info
        self._path = path
        self._conditions = conditions
        self._clock = clock
        self._measured_s = 0.0
        self._work: Iterator[None] | None = self._run()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to measure."""
        return self._work is None

    def advance(self) -> None:
        """Measures steps of one number of rows; what fails ends it, and is logged.

        Raises DeviceLost.
        """
        if self._work is None:
            return
        started_s = self._clock()
        failed = attempt(partial(next, self._work, True))
        self._measured_s += self._clock() - started_s
        if failed is not None:
            self._work = None

    def spend(self, duration_s: float) -> None:
        """Measures for about `duration_s`, if there is that much to measure; raises DeviceLost."""
        until_s = self._clock() + duration_s
        while self._work is not None and self._clock() < until_s:
            self.advance()

    def finish(self) -> StepCosts:
        """Measures all, and returns the costs; raises DeviceLost."""
        while self._work is not None:
            self.advance()
        return self.costs

    def _run(self) -> Iterator[None]:
        kept = _kept(self._path, self._conditions)
        for spec in _specs(self._info):
            key = cost_key(self._model, spec)
            name = repr(key)
            with self.lock:
                self.costs.introduce(key, spec.width_px * spec.height_px)
            if name in kept:
                for bucket, duration_s in kept[name].items():
                    self._learn(key, bucket, duration_s)
                continue
            if self._measured_s > BUDGET_S:
                break
            curve: Curve = {}
            for rows in _measuring(self._model, spec, self._info, self._clock, curve):
                self._learn(key, rows, curve[rows])
                yield
            kept[name] = curve
            _keep(self._path, self._conditions, kept)
        log.info("step costs", measured_s=round(self._measured_s, 3), knees=_knees(self.costs))

    def _learn(self, key: Hashable, bucket: int, duration_s: float) -> None:
        with self.lock:
            if math.isinf(duration_s):
                self.costs.ran_out(key, bucket)
            else:
                self.costs.learn(key, bucket, duration_s)


#: A calibration of whatever model.
AnyCalibration = Calibration[Any, Any, Any, Any]


def cost_key(model: StepShapes, spec: ImageSpec) -> Hashable:
    """What the cost of a request's steps depends on, besides the rows."""
    return (model.batch_key(spec), spec.reproducibility is Reproducibility.EXACT)


def _specs(info: ModelInfo) -> Iterator[ImageSpec]:
    """Requests of the default size and, where the model takes it, of half its edges."""
    defaults, limits = info.defaults, info.limits
    grid_px = limits.size_multiple_px
    for part in (1, 2):
        width_px = defaults.width_px // part // grid_px * grid_px
        height_px = defaults.height_px // part // grid_px * grid_px
        if min(width_px, height_px) < limits.min_size_px:
            return
        # Of exact steps, those of images with guidance have less to compute by image.
        is_exact = info.reproducibility is Reproducibility.EXACT
        guidance_scale = defaults.guidance_scale if is_exact else 0.0
        yield trial_spec(info, width_px, height_px, guidance_scale=guidance_scale)


def _measuring(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
    spec: ImageSpec,
    info: ModelInfo,
    clock: Callable[[], float],
    curve: Curve,
) -> Iterator[int]:
    """Puts seconds of a step by rows into the curve, and yields each number of rows: powers of
    two, until more do not pay or are not allowed. Rows that do not fit into memory cost
    infinitely much.
    """
    one = model.begin(spec, model.encode(spec), 0)
    image_rows = model.rows(spec)
    most = bucket_of(info.max_batch_size)
    for rows in _buckets(most):
        if rows < image_rows:
            continue
        found = attempt(partial(_step_s, model, [one] * (rows // image_rows), clock))
        if isinstance(found, OutOfDeviceMemory) and curve:
            curve[rows] = math.inf
        elif isinstance(found, DarkroomError):
            raise found
        else:
            curve[rows] = found
        yield rows
        best = worthwhile(curve, most)
        if rows >= 4 * best or (rows > best and curve[rows] > SHORT_STEP_S):
            break


def _buckets(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length())]


def _step_s(
    model: StepModel[Encoded, OneTrajectory, Inputs, Outputs],
    images: Sequence[OneTrajectory],
    clock: Callable[[], float],
) -> float:
    durations_s = []
    for _ in range(1 + REPEATS):
        started_s = clock()
        model.denoise(model.gather(images))
        model.wait()
        durations_s.append(clock() - started_s)
    return min(durations_s[1:])


def _kept(path: Path, conditions: dict[str, str]) -> dict[str, Curve]:
    """What the file has; nothing when it is missing, damaged or of other conditions."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MAX_FILE_BYTES))
        if found["conditions"] != conditions:
            return {}
        return {
            key: {int(rows): float(duration_s) for rows, duration_s in curve.items()}
            for key, curve in found["step_s"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _keep(path: Path, conditions: dict[str, str], curves: dict[str, Curve]) -> None:
    content = {"conditions": conditions, "step_s": curves}
    try:
        replace_file(path, json.dumps(content, indent=1) + "\n", mode=PUBLIC)
    except OSError as error:
        # A repository may be read-only: then every start measures again.
        log.info("step costs not kept", reason=error.strerror)


def _knees(costs: StepCosts) -> dict[str, int]:
    return {repr(key): costs.knee(key) for key in costs.measured()}
