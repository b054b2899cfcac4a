"""What becomes of errors below the worker."""

from __future__ import annotations

import errno

import pytest

from darkroom_server.backends.fake import POISONING_PROMPT, AcceleratorError, FakeStepModel
from darkroom_server.domain.errors import (
    DarkroomError,
    GenerationFailed,
    ModelUnavailable,
    OutOfDeviceMemory,
)
from darkroom_server.worker.failures import DeviceLost, MachineStarved, attempt
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


def caused(error: Exception, made: Exception | None = None) -> Exception:
    made = made or ValueError("could not be read")
    made.__cause__ = error
    return made


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOMEM, "x"), id="no-memory-to-fork"),
        pytest.param(BlockingIOError(errno.EAGAIN, "x"), id="no-process"),
        pytest.param(OSError(errno.EMFILE, "x"), id="no-file"),
        pytest.param(MemoryError(), id="no-memory"),
        pytest.param(RuntimeError("can't start new thread"), id="no-thread"),
        pytest.param(
            RuntimeError("unable to mmap 8 bytes from file <a>: Cannot allocate memory (12)"),
            id="no-room-to-map",
        ),
        pytest.param(
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
            id="no-memory-for-torch",
        ),
        pytest.param(caused(OSError(errno.ENOMEM, "x")), id="as-the-cause-of-another"),
        pytest.param(
            caused(OSError(errno.ENOMEM, "x"), ModelUnavailable("m", "It does not load.")),
            id="as-the-cause-of-what-the-loader-says",
        ),
    ],
)
def test_a_load_that_the_machine_has_no_room_for_is_told_from_others(error: Exception) -> None:
    def load() -> None:
        raise error

    with pytest.raises(MachineStarved):
        attempt(load, is_load=True)
    # A request of the same ends by itself.
    assert isinstance(attempt(load), DarkroomError)


def test_a_load_says_why_and_a_request_keeps_nothing_of_what_it_held() -> None:
    cause = ValueError("x")

    def work() -> None:
        raise cause

    failed = attempt(work, is_load=True)
    assert isinstance(failed, GenerationFailed)
    assert failed.__cause__ is cause
    failed = attempt(work)
    assert isinstance(failed, GenerationFailed)
    assert failed.__cause__ is None


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("x"), id="a-bug"),
        pytest.param(FileNotFoundError(errno.ENOENT, "x"), id="a-missing-file"),
        pytest.param(OutOfMemoryError("CUDA out of memory."), id="a-gpu-too-small"),
    ],
)
def test_any_other_failure_of_a_load_is_for_good(error: Exception) -> None:
    def load() -> None:
        raise error

    assert isinstance(attempt(load, is_load=True), DarkroomError)


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
