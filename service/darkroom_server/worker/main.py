"""Entry of a worker process: one model version on one device, driven over a pipe.

Threads: the main thread runs the loop; one reads the pipe; one compresses images. The process ends
when the server says so, when the pipe closes (the server is gone), or when loading fails.
"""

from __future__ import annotations

import gc
import os
import platform
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

import structlog

from darkroom_server.backends.base import RequestModel, StepModel
from darkroom_server.backends.fake import fake_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import DarkroomError, ModelUnavailable, OutOfDeviceMemory
from darkroom_server.domain.jobs import Reproducibility
from darkroom_server.domain.model_status import LoadProgress, LoadStage
from darkroom_server.domain.models import BackendKind, ModelInfo
from darkroom_server.domain.own_words import own_words
from darkroom_server.scheduling.shared_rows import SharedRows
from darkroom_server.telemetry.logs import configure_logs
from darkroom_server.worker import installation
from darkroom_server.worker.calibration import FILE_NAME as COSTS_FILE_NAME
from darkroom_server.worker.calibration import AnyCalibration, Calibration
from darkroom_server.worker.compile_ahead import compile_ahead
from darkroom_server.worker.failures import DeviceLost, MachineStarved, attempt
from darkroom_server.worker.files_check import require_unchanged
from darkroom_server.worker.messages import (
    Command,
    Report,
    StopWorker,
    WorkerFailed,
    WorkerLoading,
    WorkerReady,
    WorkerSpec,
)
from darkroom_server.worker.proof_file import FILE_NAME as PROOF_FILE_NAME
from darkroom_server.worker.proof_file import ProofFile
from darkroom_server.worker.proving import AnyProver, Prover
from darkroom_server.worker.request_runner import request_loop
from darkroom_server.worker.sent_commands import SentCommand, received
from darkroom_server.worker.step_runner import step_loop
from darkroom_server.worker.trial import trial_spec
from darkroom_server.worker.warmup import warm_up

log = structlog.get_logger(__name__)

#: Reports of a fake load.
_FAKE_PARTS = 10

#: Proving and measuring before a version serves: what is left is done while there is nothing else
#: to do. The most useful comes first: steps of two, four, … of the default size.
FIRST_PROOFS_S, FIRST_COSTS_S = 0.7, 0.7
#: A load is made longer by proofs by no more than this part of it.
FIRST_PROOFS_SHARE = 0.2


#: A model is loaded as its configuration says, so that its kind is not known before it is.
AnyStepModel = StepModel[Any, Any, Any, Any]


class Loop(Protocol):
    """What obeys the server's commands."""

    def post(self, command: Command) -> None:
        """Obeys a command, at once."""
        ...

    def run(self) -> None:
        """Works until a StopWorker command."""
        ...


class Pipe:
    """The worker's end of the pipe. `send` may be called from any thread."""

    def __init__(self, connection: Connection, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()

    def send(self, report: Report) -> None:
        """Sends a report; does nothing when the server has exited."""
        with self._lock:
            try:
                self._connection.send(report)
            except OSError:
                log.warning("server is gone")

    def read_into(self, loop: Loop) -> None:
        """Posts every command to the loop until the server closes the pipe."""
        while True:
            try:
                message: SentCommand = self._connection.recv()
            except (EOFError, OSError):
                # Nobody is left to work for, and the model thread may be deep in a kernel.
                os._exit(0)
            command = received(message, self._clock())
            loop.post(command)
            if isinstance(command, StopWorker):
                return


class _LoadReporter:
    """Reports to the server how far the load is."""

    def __init__(self, pipe: Pipe, total_bytes: int) -> None:
        self._pipe = pipe
        self._total_bytes = total_bytes

    def weights(self, loaded_bytes: int) -> None:
        """Notes how many bytes of weights have been read."""
        progress = LoadProgress(
            stage=LoadStage.WEIGHTS,
            loaded_bytes=min(loaded_bytes, self._total_bytes),
            total_bytes=self._total_bytes,
        )
        self._pipe.send(WorkerLoading(progress))

    def warmup(self, completed_count: int, total_count: int) -> None:
        """Notes how many warm-ups have been made."""
        progress = LoadProgress(
            stage=LoadStage.WARMUP,
            loaded_bytes=self._total_bytes,
            total_bytes=self._total_bytes,
            completed_warmup_count=completed_count,
            total_warmup_count=total_count,
        )
        self._pipe.send(WorkerLoading(progress))


def run_worker(connection: Connection, spec: WorkerSpec) -> None:
    """Loads the model, reports, and works until a StopWorker command."""
    # The server decides when a worker stops; Ctrl-C in a terminal, a terminal that is closed and
    # systemd's stop reach all processes of the service alike.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    configure_logs()
    threading.excepthook = _end_worker
    pipe = Pipe(connection)
    try:
        _work(pipe, spec)
    except MachineStarved as starved:
        pipe.send(WorkerFailed(f"The machine had no room to load it ({starved}).", is_starved=True))
    except DeviceLost:
        log.error("device lost", model=spec.version.model.name, pid=os.getpid())
        # Without the clean-up, which would use the device again. The server starts another.
        os._exit(1)


def _end_worker(failure: threading.ExceptHookArgs) -> None:
    """A worker that has lost a thread hears nothing any more; the server starts another."""
    known = failure.exc_value
    log.error("thread failed", exc_info=known and (failure.exc_type, known, failure.exc_traceback))
    os._exit(1)


def _work(pipe: Pipe, spec: WorkerSpec) -> None:
    name = f"{spec.version.model.name}/{spec.version.version}"
    prompts = PromptCache(max_bytes=spec.prompt_cache_bytes)
    reporter = _LoadReporter(pipe, spec.version.weight_bytes)
    started_s = time.monotonic()
    model = attempt(lambda: _load(spec, prompts, reporter), is_load=True)
    # Also after a failure, of which it is the better explanation.
    changed = attempt(lambda: require_unchanged(spec.version), is_load=True)
    if isinstance(changed, DarkroomError):
        model = changed
    if isinstance(model, DarkroomError):
        known = isinstance(model, ModelUnavailable | OutOfDeviceMemory)
        words = str(model) if known else f"{name} could not be loaded: {own_words(model)}"
        pipe.send(WorkerFailed(words))
        return
    loop = _loop(model, pipe, spec, prompts, load_s=time.monotonic() - started_s)
    # Half a million objects of the libraries and the model, which stay: to look through them once
    # more stops a worker for 0.3 s.
    gc.collect()
    gc.freeze()
    reader = threading.Thread(target=pipe.read_into, args=(loop,), name="pipe", daemon=True)
    attempt(reader.start, is_load=True)
    pipe.send(WorkerReady(model.memory_bytes(), model.dtype(), _made_by(model, spec)))
    log.info("worker ready", model=name, pid=os.getpid())
    loop.run()


def _made_by(model: AnyStepModel | RequestModel, spec: WorkerSpec) -> str:
    """Libraries and device, for fingerprints; the fake's pixels depend on none."""
    if spec.version.model.backend is BackendKind.FAKE:
        return ""
    device = platform.machine() if isinstance(model, RequestModel) else model.device_name()
    return installation.named_in_fingerprints(device)


def _loop(
    model: AnyStepModel | RequestModel,
    pipe: Pipe,
    spec: WorkerSpec,
    prompts: PromptCache,
    *,
    load_s: float,
) -> Loop:
    info = spec.version.model
    if isinstance(model, RequestModel):
        return request_loop(
            model, pipe.send, max_batch_size=info.max_batch_size, batching=info.dynamic_batching
        )
    if info.backend is BackendKind.FAKE:
        shared = SharedRows(is_open=True)
        return step_loop(
            model,
            pipe.send,
            max_batch_size=info.max_batch_size,
            shared=shared,
            prompts=prompts,
            checkpoints=spec.checkpoints,
        )
    prover = _prover(model, spec)
    # The first proofs find what calibration has to compute by image. Where some were kept, those
    # that are left are of steps that pay less, if at all.
    if not prover.has_kept:
        prover.spend(min(FIRST_PROOFS_S, FIRST_PROOFS_SHARE * load_s))
    calibration = _calibration(model, spec)
    calibration.spend(FIRST_COSTS_S)
    return step_loop(
        model,
        pipe.send,
        max_batch_size=info.max_batch_size,
        prover=prover,
        calibration=calibration,
        costs=calibration.costs,
        prompts=prompts,
        checkpoints=spec.checkpoints,
    )


def _prover(model: AnyStepModel, spec: WorkerSpec) -> AnyProver:
    """Proves the default size at a level that needs it, and what requests ask for."""
    info = spec.version.model
    file = ProofFile(spec.version.path / PROOF_FILE_NAME, _conditions(model, spec))
    prover = Prover(
        model,
        SharedRows(),
        max_rows=info.max_batch_size,
        tasks=info.tasks,
        file=file,
    )
    if info.reproducibility is Reproducibility.EXACT:
        defaults = info.defaults
        prover.ask(
            trial_spec(
                info,
                defaults.width_px,
                defaults.height_px,
                guidance_scale=defaults.guidance_scale,
            )
        )
    return prover


def _calibration(model: AnyStepModel, spec: WorkerSpec) -> AnyCalibration:
    """Measures what steps cost here; the fake's are learnt while serving."""
    info = spec.version.model
    conditions = _conditions(model, spec) | {
        "max_batch_size": str(info.max_batch_size),
        "reproducibility": info.reproducibility.name,
    }
    path = spec.version.path / COSTS_FILE_NAME
    return Calibration(model, info, path=path, conditions=conditions)


def _conditions(model: AnyStepModel, spec: WorkerSpec) -> dict[str, str]:
    """What has to be the same for what was measured before to be true now."""
    info = spec.version.model
    return {
        "digest": spec.version.digest,
        "dtype": model.dtype().value,
        "memory": repr(info.memory),
        "denoiser": f"{info.denoiser.label} {info.denoiser.attention_backend}",
        **installation.conditions(model.device_name()),
    }


def _load(
    spec: WorkerSpec, prompts: PromptCache, reporter: _LoadReporter
) -> AnyStepModel | RequestModel:
    """The model, warm."""
    model = _read(spec, prompts, reporter.weights)
    info = spec.version.model
    failure = attempt(lambda: _warm(model, info, reporter), is_load=True)
    if isinstance(failure, DarkroomError):
        raise ModelUnavailable(
            info.name, f"The model made no image to warm up: {own_words(failure)}"
        )
    return model


def _warm(model: AnyStepModel | RequestModel, info: ModelInfo, reporter: _LoadReporter) -> None:
    if not isinstance(model, RequestModel):
        compile_ahead(model, info)
    warm_up(model, info, reporter.warmup)
    if not isinstance(model, RequestModel):
        model.end_warm_up()


def _read(
    spec: WorkerSpec, prompts: PromptCache, report_bytes: Callable[[int], None]
) -> AnyStepModel | RequestModel:
    report_bytes(0)
    model = spec.version.model
    match model.backend:
        case BackendKind.FAKE:
            for part in range(1, _FAKE_PARTS + 1):
                time.sleep(model.fake.load_s / _FAKE_PARTS)  # stands for reading weights
                report_bytes(spec.version.weight_bytes * part // _FAKE_PARTS)
            return fake_model(model.fake)
        case BackendKind.DIFFUSERS:
            # Imported here: a fake worker needs no torch.
            from darkroom_server.backends.diffusers.loader import load_model

            return load_model(
                spec.version,
                spec.placement,
                thread_count=spec.thread_count,
                prompts=prompts,
                report_bytes=report_bytes,
            )
