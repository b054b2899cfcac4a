"""The worker's loop: late jobs fail, ready jobs run, and reports are sent.

One loop for all models; what a model can do is its runner's: `step_runner.py` takes one shared
denoising step after another, `request_runner.py` runs whole requests.

Two threads meet here: one that calls `run` or `tick` and owns the model, and any that calls `post`.
What both touch is behind the lock of the table of jobs, which is never held while the model runs:
so a job is admitted or refused, and a cancelled one leaves the queue, at once. Knows nothing of
processes, so tests drive it with the fake backend.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, assert_never

from darkroom_server.domain.errors import DarkroomError, DeadlineExceeded
from darkroom_server.scheduling.window_batcher import WaitUntil
from darkroom_server.worker.compression import Compression
from darkroom_server.worker.counters import WorkerCounters
from darkroom_server.worker.jobs import JobTable, OneJob
from darkroom_server.worker.messages import CancelJob, Command, Report, StopWorker, SubmitJob

#: Waiting jobs hear of their position in the queue at most this often.
POSITIONS_INTERVAL_S = 0.25

#: Called between a run's steps, from the loop's thread: does what cannot wait for its end, and says
#: whether the worker is to go on.
Attend = Callable[[], bool]
#: What is to run now, in the loop's thread and without the lock.
Work = Callable[[Attend], None]


class Runner(Protocol):
    """Runs a worker's jobs on its model. The lock is held in all but `rest` and `close`."""

    def admit(self, asked: SubmitJob, now_s: float) -> DarkroomError | None:
        """Takes a job into the table, or says why not. Called from any thread."""
        ...

    def timed_out(self, now_s: float) -> Iterable[tuple[str, DarkroomError]]:
        """Jobs that have waited longer than their queue allows, with their errors."""
        ...

    def plan(self, now_s: float) -> Work | WaitUntil:
        """What is to run now, which must then be run; or until when there is nothing."""
        ...

    def estimates_s(self, job_ids: Sequence[str], now_s: float) -> Mapping[str, float]:
        """Seconds until jobs in the table are done, of those of which that is known."""
        ...

    def rest(self, *, is_idle: bool) -> float | None:
        """Work besides the jobs', a moment's worth; how long to wait before the next, if any.

        `is_idle`: no job has anything to do.
        """
        ...

    def close(self) -> None:
        """The worker ends."""
        ...


class WorkerLoop(Generic[OneJob]):
    """Obeys commands and has a runner run jobs. `emit` must be safe to call from any thread."""

    def __init__(
        self,
        jobs: JobTable[OneJob],
        runner: Runner,
        emit: Callable[[Report], None],
        *,
        lane: Compression,
        counters: WorkerCounters,
        clock: Callable[[], float],
    ) -> None:
        self._jobs = jobs
        self._runner = runner
        self._emit = emit
        self._lane = lane
        self._counters = counters
        self._clock = clock
        self._lock = jobs.lock
        self._posted = threading.Condition(self._lock)
        #: Whether a command came since the last tick began.
        self._has_news = False
        self._stopping = False
        #: When the callers left whose jobs still may be in the step that runs.
        self._freed_since_s: list[float] = []
        self._positions_s = -math.inf

    def post(self, command: Command) -> None:
        """Obeys a command; from any thread, and without waiting for the model."""
        with self._lock:
            match command:
                case SubmitJob(job):
                    refused = self._runner.admit(command, self._clock())
                    if refused is not None:
                        self._jobs.refuse(job.job_id, refused)
                case CancelJob(job_id, since_s):
                    if since_s is not None and job_id in self._jobs:
                        self._freed_since_s.append(since_s)
                    self._jobs.drop(job_id)
                case StopWorker():
                    self._stopping = True
                case _:
                    assert_never(command)
            self._has_news = True
            self._posted.notify()

    def run(self) -> None:
        """Ticks until a StopWorker command, sleeping while there is nothing to do."""
        until_s = -math.inf
        while self._sleep(until_s):
            until_s = self.tick()
        self._runner.close()
        self._lane.close()

    def run_to_end(self) -> None:
        """Ticks until all jobs have ended and their images are encoded; takes no more after it."""
        while not self._jobs.is_idle:
            self.tick()
        self._lane.close()

    def tick(self) -> float:
        """Runs what is ready, and sends reports that are due. Returns when the next tick is due."""
        with self._lock:
            self._has_news = False
            now_s = self._clock()
            self._note_freed(now_s)
            self._fail_late(now_s)
            planned = self._runner.plan(now_s)
            self._report_positions(now_s)
        is_idle = isinstance(planned, WaitUntil)
        if not isinstance(planned, WaitUntil):
            planned(self._attend)
        pause_s = self._runner.rest(is_idle=is_idle)
        self._report_counts()
        if not isinstance(planned, WaitUntil):
            return -math.inf
        rested_s = math.inf if pause_s is None else self._clock() + pause_s
        return min(planned.until_s, rested_s, self._counters.due_s())

    def _sleep(self, until_s: float) -> bool:
        """Waits for a command or until a time; False after a StopWorker command."""
        with self._lock:
            while not (self._stopping or self._has_news):
                left_s = until_s - self._clock()
                if left_s <= 0:
                    break
                self._posted.wait(None if math.isinf(left_s) else left_s)
            return not self._stopping

    def _attend(self) -> bool:
        with self._lock:
            now_s = self._clock()
            self._fail_late(now_s)
            self._report_positions(now_s)
            self._report_counts()
            return not self._stopping

    def _note_freed(self, now_s: float) -> None:
        """No step runs: what was cancelled meanwhile takes nothing any more."""
        for since_s in self._freed_since_s:
            self._counters.note_freed(now_s - since_s)
        self._freed_since_s.clear()

    def _fail_late(self, now_s: float) -> None:
        for job in self._jobs.expired(now_s):
            self._jobs.fail(job.job_id, DeadlineExceeded("The deadline passed."))
        for job_id, error in self._runner.timed_out(now_s):
            self._jobs.fail(job_id, error)

    def _report_positions(self, now_s: float) -> None:
        if now_s - self._positions_s >= POSITIONS_INTERVAL_S:
            self._positions_s = now_s
            self._jobs.report_positions(lambda ids: self._runner.estimates_s(ids, now_s), now_s)

    def _report_counts(self) -> None:
        if (stats := self._counters.due_report(self._clock())) is not None:
            self._emit(stats)
