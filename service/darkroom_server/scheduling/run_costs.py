"""What whole runs cost, learnt from runs: seconds by size, guidance and number of images.

Pure: durations come in as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.scheduling.run_kinds import RunKind, run_step_count
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.scheduling.window_batcher import Waiting


@dataclass(slots=True)
class RunCosts:
    """Seconds that runs take, in proportion to their steps; `max_images`: of one run."""

    max_images: int
    _steps: StepCosts = field(init=False)

    def __post_init__(self) -> None:
        self._steps = StepCosts(max_rows=self.max_images)

    def learn(self, spec: ImageSpec, image_count: int, duration_s: float) -> None:
        """Takes in a run that went from end to end."""
        self._introduce(spec)
        self._steps.learn(RunKind.of(spec), image_count, duration_s / run_step_count(spec))

    def run_s(self, spec: ImageSpec, image_count: int) -> float | None:
        """Seconds of one run; None while nothing is known of runs like it."""
        self._introduce(spec)
        if not self._steps.knows(RunKind.of(spec)):
            return None
        return run_step_count(spec) * self._steps.step_s(RunKind.of(spec), image_count)

    def estimate_s(
        self, spec: ImageSpec, *, alone: bool, ahead: Iterable[Waiting], running_s: float
    ) -> float | None:
        """Seconds until a request that comes now is made; None while too little is known.

        `running_s` are left of what runs. What waits goes before it in full runs, itself in a run
        of its own: in less, if others run with it.
        """
        own_s = self._alone_s(spec, len(spec.seeds)) if alone else self._own_s(spec)
        total_s = None if own_s is None else running_s + own_s
        for waiting in ahead:
            self._steps.introduce(waiting.kind, waiting.kind.pixel_count)
            if total_s is None or not self._steps.knows(waiting.kind):
                return None
            count = 1 if waiting.is_alone else self.max_images
            total_s += waiting.image_step_count * self._steps.step_s(waiting.kind, count) / count
        return total_s

    def _alone_s(self, spec: ImageSpec, image_count: int) -> float | None:
        one_s = self.run_s(spec, 1)
        return None if one_s is None else one_s * image_count

    def _own_s(self, spec: ImageSpec) -> float | None:
        """Seconds of the runs that a request needs at least."""
        full_count, rest_count = divmod(len(spec.seeds), self.max_images)
        full_s = self.run_s(spec, self.max_images)
        rest_s = self.run_s(spec, rest_count) if rest_count else 0.0
        return None if full_s is None or rest_s is None else full_count * full_s + rest_s

    def _introduce(self, spec: ImageSpec) -> None:
        kind = RunKind.of(spec)
        self._steps.introduce(kind, kind.pixel_count)
