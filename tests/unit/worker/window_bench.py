"""A window loop on a model whose pixels can be worked out by hand, driven batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from darkroom_server.backends.base import ImageArray
from darkroom_server.backends.fake import FAILING_PROMPT, POISONING_PROMPT, AcceleratorError
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.errors import GenerationFailed, UnsupportedParameter
from darkroom_server.domain.jobs import ImageSpec, JobEvent
from darkroom_server.domain.models import Dtype
from darkroom_server.worker.compression import Compression
from darkroom_server.worker.messages import JobFailed, JobReport, Report
from darkroom_server.worker.request_runner import request_loop
from tests.unit.worker.loop_bench import Clock

MAX_BATCH_SIZE = 4
STEP_S = 0.5
AT_ONCE = DynamicBatching()


@dataclass
class FakeRequestModel:
    """Every byte of an image is its seed plus the steps.

    `during` is called in every step, with its number. Above `memory_images` memory runs out.
    """

    clock: Clock
    memory_images: int = 100
    step_s: float = STEP_S
    during: Callable[[int], None] = lambda _: None
    runs: list[list[str]] = field(default_factory=list)
    step_counts: list[int] = field(default_factory=list)

    def compatible_key(self, spec: ImageSpec) -> Hashable:
        if spec.negative_prompt is not None:
            raise UnsupportedParameter("negative_prompt", "It takes none.")
        return (spec.width_px, spec.height_px, spec.step_count)

    def run(
        self, specs: Sequence[ImageSpec], on_step: Callable[[int, int], None]
    ) -> list[list[ImageArray]]:
        if sum(len(spec.seeds) for spec in specs) > self.memory_images:
            raise MemoryError
        if any(spec.prompt == FAILING_PROMPT for spec in specs):
            raise GenerationFailed("The fake model was asked to fail.")
        if any(spec.prompt == POISONING_PROMPT for spec in specs):
            raise AcceleratorError("CUDA error: the fake device was asked to fail")
        self.runs.append([spec.prompt for spec in specs for _ in spec.seeds])
        self.step_counts.append(0)
        for step in range(1, specs[0].step_count + 1):
            self.clock.now_s += self.step_s
            self.step_counts[-1] = step
            self.during(step)
            on_step(step, specs[0].step_count)
        return [[self._image(spec, seed) for seed in spec.seeds] for spec in specs]

    def memory_bytes(self) -> int:
        return 0

    def peak_memory_bytes(self) -> int:
        return 0

    def dtype(self) -> Dtype:
        return Dtype.FP32

    def _image(self, spec: ImageSpec, seed: int) -> ImageArray:
        value = (seed + spec.step_count) % 256
        return np.full((spec.height_px, spec.width_px, 3), value, dtype=np.uint8)


class WindowBench:
    """A loop on the fake model, driven batch by batch."""

    def __init__(self, *, memory_images: int = 100, batching: DynamicBatching = AT_ONCE) -> None:
        self.reports: list[Report] = []
        self.clock = Clock()
        self.model = FakeRequestModel(self.clock, memory_images)
        self.lane = Compression(self.reports.append, self.clock)
        self.loop = request_loop(
            self.model,
            self.reports.append,
            max_batch_size=MAX_BATCH_SIZE,
            batching=batching,
            lane=self.lane,
            clock=self.clock,
        )

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.loop.tick()

    def events(self, job_id: str = "a") -> list[JobEvent]:
        self.lane.close()
        found = [r for r in self.reports if isinstance(r, JobReport) and r.job_id == job_id]
        return [report.event for report in found]

    def failures(self) -> dict[str, type[Exception]]:
        return {r.job_id: type(r.error) for r in self.reports if isinstance(r, JobFailed)}
