"""What `backends/base.py` says of threads: a model's own, and what admission asks from another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from darkroom_server.backends.fake import FakeStepModel
from darkroom_server.domain.jobs import JobCompleted, PreviewSpec
from darkroom_server.worker.messages import JobReport, Report, StopWorker
from darkroom_server.worker.request_runner import request_loop
from darkroom_server.worker.step_runner import step_loop
from tests.unit.worker.loop_bench import MAX_BATCH_SIZE, Clock, shared
from tests.unit.worker.window_bench import AT_ONCE, FakeRequestModel


class Watched:
    """A model that knows which thread called which of its methods."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.calls: set[tuple[str, int]] = set()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._model, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.calls.add((name, threading.get_ident()))
            return method(*args, **kwargs)

        return watched


def steps(model: Any, emit: Callable[[Report], None]) -> Any:
    return step_loop(model, emit, max_batch_size=MAX_BATCH_SIZE)


def requests(model: Any, emit: Callable[[Report], None]) -> Any:
    return request_loop(model, emit, max_batch_size=MAX_BATCH_SIZE, batching=AT_ONCE)


@pytest.mark.parametrize(
    ("made", "loop_of", "of_any_thread"),
    [
        pytest.param(FakeStepModel, steps, {"batch_key", "rows", "evaluations"}, id="steps"),
        pytest.param(
            lambda: FakeRequestModel(Clock()), requests, {"compatible_key"}, id="whole-requests"
        ),
    ],
)
def test_only_what_admission_asks_is_called_from_another_thread(
    made: Callable[[], Any], loop_of: Callable[..., Any], of_any_thread: set[str]
) -> None:
    model, completed = Watched(made()), threading.Event()

    def emit(report: Report) -> None:
        if isinstance(report, JobReport) and isinstance(report.event, JobCompleted):
            completed.set()

    loop = loop_of(model, emit)
    thread = threading.Thread(target=loop.run)
    thread.start()
    preview = PreviewSpec(interval_step_count=1)
    loop.post(shared("a", step_count=3, seeds=(1, 2), preview=preview))
    assert completed.wait(300)
    loop.post(StopWorker())
    thread.join(300)
    assert not thread.is_alive()
    own = threading.get_ident()
    assert {name for name, ident in model.calls if ident == own} == of_any_thread
    # The rest was called as well, by the loop's thread.
    assert {"decode", "run"} & {name for name, ident in model.calls if ident == thread.ident}
