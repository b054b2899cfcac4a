"""Where pictures are decoded: in a few processes of their own, which can be stopped.

Decoders cannot be interrupted, and what they do with a hostile file is not for the server to bear.
Requests for pictures have a queue of their own, apart from all other work of the server.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar, cast

from darkroom_server.domain.errors import InvalidImage, QueueFull
from darkroom_server.image_decoding.images import ImageLimits
from darkroom_server.image_decoding.picture_process import WORK_LIMIT_S

_Arguments = ParamSpec("_Arguments")
_Value = TypeVar("_Value")

#: One would make every picture wait for the largest.
_LEAST_COUNT, _MOST_COUNT = 2, 8
_COMMAND = (sys.executable, "-P", "-m", "darkroom_server.image_decoding.picture_process")
#: Libraries with threads of their own would hold memory for each.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
#: Before the process has said which picture it reads.
_FIRST_FIELD = "image.content"
_RETRY_AFTER_S = 1.0


class Pictures(Protocol):
    """Work on pictures, as the edges see it."""

    @property
    def limits(self) -> ImageLimits:
        """The largest that are taken."""

    async def run(
        self,
        work: Callable[_Arguments, _Value],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Value:
        """What a function of a module returns or raises; cancelled, it stops the work."""


class PictureProcesses:
    """Decodes in processes that are started when they are needed. For any event loop."""

    def __init__(self, count: int | None = None, *, work_limit_s: float = WORK_LIMIT_S) -> None:
        self.limits = ImageLimits()
        self._work_limit_s = work_limit_s
        count = count or min(max((os.cpu_count() or 1) // 2, _LEAST_COUNT), _MOST_COUNT)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="picture")
        # Threads take from its end, and put back there: list's own methods are atomic.
        self._idle: list[_Process] = []
        self._end = weakref.finalize(self, _end_all, self._idle, self._threads)

    async def run(
        self,
        work: Callable[_Arguments, _Value],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Value:
        """What `work` returns or raises, done elsewhere; values must be such that can be pickled.

        Cancelled, it stops the work. Raises InvalidImage for a picture that takes too much work or
        ends the decoder, QueueFull when the machine gives no process.
        """
        errand = _Errand((_call, (work, args, kwargs)))
        doing = asyncio.get_running_loop().run_in_executor(self._threads, self._do, errand)
        try:
            return cast("_Value", await doing)
        finally:
            errand.leave()

    def start(self) -> None:
        """Starts the first process ahead, so that the first picture need not wait for it."""
        self._threads.submit(lambda: self._idle.append(self._process()))

    def close(self) -> None:
        """Ends the processes; what they are doing is lost."""
        self._end()

    def _do(self, errand: _Errand) -> object:
        """In one of the threads: as many as there may be processes."""
        process = self._process()
        value, refusal = errand.give_to(process)
        if process.is_alive and self._end.alive:
            self._idle.append(process)
        else:
            process.end()
        if refusal is not None:
            raise refusal
        return value

    def _process(self) -> _Process:
        while self._idle:
            try:
                process = self._idle.pop()
            except IndexError:
                break  # another thread was quicker
            if process.is_running():
                return process
            process.end()
        try:
            return _Process(self._work_limit_s)
        except OSError as error:
            text = "No process can be started now to read pictures."
            raise QueueFull(text, retry_after_s=_RETRY_AFTER_S) from error


class _Errand:
    """Work that one process does, until nobody waits for it any more."""

    def __init__(self, message: object) -> None:
        self._message = message
        self._process: _Process | None = None
        self._is_left = False
        self._lock = threading.Lock()

    def give_to(self, process: _Process) -> tuple[object, Exception | None]:
        """The process's answer, as value or refusal."""
        with self._lock:
            if self._is_left:
                return None, None
            self._process = process
        try:
            return process.ask(self._message)
        finally:
            with self._lock:
                self._process = None
                # It may have been killed after it had answered.
                process.is_alive &= not self._is_left

    def leave(self) -> None:
        """No caller waits any more; ends the process if it works on this."""
        with self._lock:
            self._is_left = True
            if self._process is not None:
                self._process.kill()


class _Process:
    """One process, which does one task at a time. Raises OSError when none can be started."""

    def __init__(self, work_limit_s: float) -> None:
        self._work_limit_s = work_limit_s
        self._popen = subprocess.Popen(
            (*_COMMAND, str(work_limit_s)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ENVIRONMENT},
            # Ctrl-C at a terminal is for the server, which lets requests end.
            start_new_session=True,
        )
        self.is_alive = True
        self._field = _FIRST_FIELD

    def is_running(self) -> bool:
        """Whether it is there still: the system may end any process."""
        return self._popen.poll() is None

    def ask(self, message: object) -> tuple[object, Exception | None]:
        """Value and refusal; blocks. Afterwards it is not alive if it has ended of the errand."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._field = _FIRST_FIELD
        try:
            pickle.dump(message, self._popen.stdin, pickle.HIGHEST_PROTOCOL)
            self._popen.stdin.flush()
            while isinstance(found := pickle.load(self._popen.stdout), str):
                self._field = found
            value, refusal = found
            return value, refusal
        except (OSError, EOFError, pickle.UnpicklingError):
            self.is_alive = False
            return None, self._end_of(self._popen.wait())

    def _end_of(self, exit_code: int) -> Exception:
        """What became of the picture where the process ended in the middle of an errand."""
        if exit_code == -signal.SIGPROF:
            text = f"it takes more than {self._work_limit_s:g} s of work to decode"
            return InvalidImage(self._field, text)
        if exit_code < 0:
            return InvalidImage(self._field, "it ends the decoder, so it cannot be read")
        return RuntimeError(f"a process that decodes pictures ended with {exit_code}")

    def kill(self) -> None:
        """Ends it in the middle of its work."""
        self._popen.kill()

    def end(self) -> None:
        """Ends it and closes its pipes."""
        self._popen.kill()
        self._popen.wait()
        for pipe in (self._popen.stdin, self._popen.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                # What it had not read goes with it.
                continue


def _call(
    work: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    return work(*args, **kwargs)


def _end_all(idle: list[_Process], threads: ThreadPoolExecutor) -> None:
    threads.shutdown(wait=False, cancel_futures=True)
    while idle:
        idle.pop().end()
