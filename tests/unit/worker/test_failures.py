"""What becomes of errors below the worker."""

from __future__ import annotations

import pytest

from darkroom_server.backends.fake import POISONING_PROMPT, AcceleratorError, FakeStepModel
from darkroom_server.domain.errors import DarkroomError, GenerationFailed, OutOfDeviceMemory
from darkroom_server.worker.failures import DeviceLost, attempt
from darkroom_server.worker.messages import JobFailed, Report, SubmitJob
from darkroom_server.worker.step_runner import step_loop
from tests.unit.specs import job


class OutOfMemoryError(RuntimeError):
    """As torch calls it."""


def raising(error: Exception) -> object:
    def work() -> None:
        raise error

    return attempt(work)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(ValueError("x"), GenerationFailed, id="a-bug"),
        pytest.param(RuntimeError("shape mismatch"), GenerationFailed, id="an-error-of-torch"),
        pytest.param(MemoryError(), OutOfDeviceMemory, id="memory-of-the-machine"),
        pytest.param(OutOfMemoryError("CUDA out of memory."), OutOfDeviceMemory, id="of-a-gpu"),
        pytest.param(
            AcceleratorError("CUDA error: out of memory"), OutOfDeviceMemory, id="of-its-driver"
        ),
        pytest.param(
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            OutOfDeviceMemory,
            id="of-its-libraries",
        ),
    ],
)
def test_a_failure_of_one_request_is_its_own(error: Exception, kind: type[DarkroomError]) -> None:
    assert isinstance(raising(error), kind)


def test_torch_says_on_a_processor_too_that_memory_ran_out() -> None:
    torch = pytest.importorskip("torch")
    assert isinstance(attempt(lambda: torch.empty(1 << 60)), OutOfDeviceMemory)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(AcceleratorError("CUDA error: device-side assert triggered"), id="by-kind"),
        pytest.param(RuntimeError("CUDA error: an illegal memory access"), id="by-its-words"),
    ],
)
def test_rule_12_a_lost_device_ends_the_worker(error: Exception) -> None:
    with pytest.raises(DeviceLost):
        raising(error)


def test_the_jobs_of_a_lost_device_are_not_failed_but_left_to_run_again() -> None:
    reports: list[Report] = []
    loop = step_loop(FakeStepModel(), reports.append, max_batch_size=8)
    loop.post(SubmitJob(job("a", prompt=POISONING_PROMPT)))
    loop.post(SubmitJob(job("b")))
    with pytest.raises(DeviceLost):
        loop.run_to_end()
    assert not [report for report in reports if isinstance(report, JobFailed)]
