"""The server's side of one worker process. Loop-bound, except where a method says otherwise.

Two threads serve an instance: one reads the pipe and hands reports to the event loop, one writes,
because a Fill's pixels are too large to write without blocking.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from darkroom_server.background import log_failure
from darkroom_server.telemetry.unreported import report_nothing
from darkroom_server.worker.main import run_worker
from darkroom_server.worker.messages import Command, Report, StopWorker, WorkerSpec
from darkroom_server.worker.sent_commands import sent

#: Settings of workers' glibc, unless the server's environment has others: keep what is freed
#: for the next step. It would return each large tensor to the kernel and allocate it again.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(64 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
#: How often a thread of torch looks whether the others are done before it sleeps, unless the
#: server's environment has a word on it. They wait so at every layer, and by default in a loop of
#: milliseconds: where others want the cores, too, it keeps one from the thread it waits for.
SPINS = {"GOMP_SPINCOUNT": "1000"}
#: What says so, too.
SPINS_OTHERWISE = "OMP_WAIT_POLICY"
#: How long a worker may take to end after the command to.
STOP_TIMEOUT_S = 5.0
#: How long its end of the pipe may stay open after it is said to have left, and how long its exit
#: code may take to arrive after that was closed.
READER_TIMEOUT_S, EXIT_CODE_TIMEOUT_S = 1.0, 0.5


def prepare_fork_server(*, preload_torch: bool) -> None:
    """Chooses what worker processes start with; call once, before the first instance."""
    report_nothing()
    # Inherited by the fork server: no notices about absent optional packages in the log.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    # Otherwise a folder `triton` or a file `torch.py` where the server began would be imported.
    os.environ["PYTHONSAFEPATH"] = "1"
    told_workers = ALLOCATOR if SPINS_OTHERWISE in os.environ else ALLOCATOR | SPINS
    for name, value in told_workers.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["darkroom_server.worker.preload" if preload_torch else "darkroom_server.worker.main"]
    )


class WorkerProcess:
    """One worker process; `on_report` and `on_exit` are called on the event loop.

    `on_exit` gets whether somebody else has killed it: a user, or the system for lack of memory,
    but neither this server nor a fault of the worker.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        on_report: Callable[[Report], None],
        on_exit: Callable[[bool], None],
    ) -> None:
        self._spec = spec
        self._on_report = on_report
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._reader: threading.Thread | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pipe-writer")
        self._starting = asyncio.Lock()
        self._stopped = False
        self._killed_here = False
        #: The exit code is read from a pipe, which has it once.
        self._joining = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Starts the process; its WorkerReady or WorkerFailed comes as a report.

        Raises OSError or EOFError when no process can be started.
        """
        async with self._starting:
            await _to_its_end(self._start)

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=True)
        process = context.Process(
            target=run_worker, args=(theirs, self._spec), name="darkroom-worker", daemon=True
        )
        with contextlib.ExitStack() as undo, contextlib.closing(theirs):
            undo.callback(ours.close)
            process.start()
            undo.pop_all()
        self._process, self._connection = process, ours
        reader = threading.Thread(target=self._read, args=(ours,), name="pipe-reader", daemon=True)
        try:
            reader.start()
        except RuntimeError as error:
            # As the thread module says it when the system has no room for another.
            process.kill()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        self._reader = reader

    def _read(self, connection: Connection) -> None:
        """Runs in the reader thread until the worker's end of the pipe closes."""
        try:
            while True:
                report: Report = connection.recv()
                self._call(self._on_report, report)
        except (EOFError, OSError):
            pass
        finally:
            # Also after a report that cannot be read: a worker that is not heard is a dead one.
            self._call(self._on_exit, self._is_killed_by_others())

    def _is_killed_by_others(self) -> bool:
        process = self._process
        if process is None or self._killed_here:
            return False
        with self._joining:
            process.join(EXIT_CODE_TIMEOUT_S)
            return process.exitcode == -signal.SIGKILL

    def _call(self, function: Callable[..., None], *args: Report | bool) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def send(self, command: Command) -> None:
        """Queues a command; dropped when the worker has exited, for which `on_exit` is called."""
        if not self._stopped:
            log_failure("command to a worker", self._writer.submit(self._write, command))

    def _write(self, command: Command) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.send(sent(command, time.monotonic()))
        except OSError:
            return

    def kill(self) -> None:
        """Kills the process; `on_exit` is called when it has exited."""
        process, reader = self._process, self._reader
        if process is None:
            return
        self._killed_here = True
        process.kill()
        if reader is not None and reader.is_alive() and process.pid is not None:
            # Of a worker whose fork server was killed the process module knows no more; as long as
            # its end of the pipe is open it is there.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    async def stop(self, *, by_force: bool) -> None:
        """Ends the process, by request unless `by_force`; a start under way is waited for."""
        async with self._starting:
            if not by_force:
                self.send(StopWorker())
            self._stopped = True
            self._writer.shutdown(wait=False)
            await _to_its_end(self._stop, 0.0 if by_force else STOP_TIMEOUT_S)

    def _stop(self, patience_s: float) -> None:
        process = self._process
        if process is None:
            return
        self._killed_here = True
        with self._joining:
            process.join(patience_s)
            if process.is_alive():
                process.kill()
                process.join()
        if self._reader is not None:
            # A fork server that was killed takes its word of the worker with it; the pipe knows.
            self._reader.join(READER_TIMEOUT_S)
            if self._reader.is_alive() and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                self._reader.join()
        if self._connection is not None:
            self._connection.close()
        # Not left to a collection of garbage: it holds a file.
        self._process = None
        process.close()


async def _to_its_end(work: Callable[..., None], *args: float) -> None:
    """Runs blocking work in a thread; also when cancelled, it returns only once that is done.

    A process that is being started must be known to `stop`, and be stopped once.
    """
    working = asyncio.ensure_future(asyncio.to_thread(work, *args))
    try:
        await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
