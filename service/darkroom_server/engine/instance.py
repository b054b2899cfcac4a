"""The server's side of one worker process. Loop-bound, except where a method says otherwise.

Two threads serve an instance: one reads the pipe and hands reports to the event loop, one writes,
because a Fill's pixels are too large to write without blocking.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from darkroom_server.worker.main import run_worker
from darkroom_server.worker.messages import Command, Report, StopWorker, WorkerSpec

#: How long a worker may take to leave once told to.
STOP_TIMEOUT_S = 5.0


def prepare_fork_server(*, preload_torch: bool) -> None:
    """Chooses what worker processes start with; call once, before the first instance."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["darkroom_server.worker.preload" if preload_torch else "darkroom_server.worker.main"]
    )


class Instance:
    """One worker process; `on_report` and `on_exit` are called on the event loop."""

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        on_report: Callable[[Report], None],
        on_exit: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._on_report = on_report
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="pipe-writer")

    @property
    def pid(self) -> int | None:
        """Process id, once started."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Starts the process; its WorkerReady or WorkerFailed comes as a report."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = context.Pipe(duplex=True)
        process = context.Process(
            target=run_worker, args=(theirs, self._spec), name="darkroom-worker", daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._connection = process, ours
        threading.Thread(target=self._read, args=(ours,), name="pipe-reader", daemon=True).start()

    def _read(self, connection: Connection) -> None:
        """Runs in the reader thread until the worker's end of the pipe closes."""
        while True:
            try:
                report: Report = connection.recv()
            except (EOFError, OSError):
                break
            self._call(self._on_report, report)
        self._call(self._on_exit)

    def _call(self, function: Callable[..., None], *args: Report) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def send(self, command: Command) -> None:
        """Queues a command; lost silently when the worker is gone, which `on_exit` tells."""
        self._writer.submit(self._write, command)

    def _write(self, command: Command) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.send(command)
        except OSError:
            return

    async def stop(self) -> None:
        """Ends the process: by request, and by force when it does not leave in time."""
        self.send(StopWorker())
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        process = self._process
        self._writer.shutdown(wait=False)
        if process is None:
            return
        process.join(STOP_TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
        if self._connection is not None:
            self._connection.close()
