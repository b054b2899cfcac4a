"""A worker loop on the fake model, driven tick by tick on a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from darkroom_server.backends.fake import FakeStepModel
from darkroom_server.domain.jobs import JobEvent, Reproducibility
from darkroom_server.scheduling.step_costs import StepCosts
from darkroom_server.worker.compression import Compression
from darkroom_server.worker.messages import JobFailed, JobReport, JobReports, Report, SubmitJob
from darkroom_server.worker.proving import Prover
from darkroom_server.worker.step_runner import step_loop
from tests.unit.specs import job

MAX_BATCH_SIZE = 4
#: Time between ticks; long enough that nothing is held back for having been reported just now.
TICK_S = 0.5


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def job_reports(reports: Iterable[Report]) -> Iterator[JobReport]:
    """What is told of jobs, one by one."""
    for report in reports:
        if isinstance(report, JobReport):
            yield report
        elif isinstance(report, JobReports):
            yield from report.reports


class Bench:
    """A loop on the fake model, driven tick by tick."""

    def __init__(
        self,
        model: FakeStepModel | None = None,
        *,
        costs: StepCosts | None = None,
        clock: Clock | None = None,
        prover: Prover | None = None,
    ) -> None:
        self.reports: list[Report] = []
        self.clock = clock or Clock()
        self.lane = Compression(self.reports.append, self.clock)
        self.loop = step_loop(
            model or FakeStepModel(),
            self.reports.append,
            max_batch_size=MAX_BATCH_SIZE,
            prover=prover,
            costs=costs,
            lane=self.lane,
            clock=self.clock,
        )

    def ticks(self, count: int) -> None:
        for _ in range(count):
            self.clock.now_s += TICK_S
            self.loop.tick()

    def events(self, job_id: str = "a") -> list[JobEvent]:
        self.lane.close()
        return [one.event for one in job_reports(self.reports) if one.job_id == job_id]

    def failures(self) -> dict[str, type[Exception]]:
        return {r.job_id: type(r.error) for r in self.reports if isinstance(r, JobFailed)}


def shared(name: str, *, deadline_s: float | None = None, **changes: Any) -> SubmitJob:
    """The command to run a job that may share its steps."""
    values = {"reproducibility": Reproducibility.TOLERANCE} | changes
    return SubmitJob(job(name, deadline_s=deadline_s, **values))
