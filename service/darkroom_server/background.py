"""Work that goes on beside the calls: none of it ends without a word, and what must go on does.

A task that nobody waits for keeps what it raised to itself. All of the server's are made here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog

log = structlog.get_logger(__name__)

#: Pauses before work that failed is begun again: doubled each time it fails soon again.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 60.0

_Result = TypeVar("_Result")


def begin(
    name: str,
    work: Coroutine[Any, Any, _Result],
    *,
    expected: tuple[type[Exception], ...] = (),
    on_failure: Callable[[], None] | None = None,
) -> asyncio.Task[_Result]:
    """A task that does some work once. What it raises is logged, unless it is `expected` by those
    who wait for it; then `on_failure` is called.
    """
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[_Result]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, expected):
            log.error("background work failed", work=name, exc_info=error)
        if on_failure is not None:
            on_failure()

    task.add_done_callback(ended)
    return task


def keep_going(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """A task that does some work until it returns; errors are logged, and the work is restarted."""

    async def go_on() -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            outcome = await asyncio.gather(work(), return_exceptions=True)
            failure: BaseException | None = outcome[0]
            if failure is None:
                return
            if not isinstance(failure, Exception):
                raise failure
            if loop.time() - began_s > MAX_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            log.error("background work failed", work=name, again_in_s=pause_s, exc_info=failure)
            await asyncio.sleep(pause_s)
            pause_s = min(2.0 * pause_s, MAX_PAUSE_S)

    return asyncio.create_task(go_on(), name=name)


def log_failure(name: str, future: Future[Any]) -> None:
    """What a thread's work raises is logged."""

    def ended(future: Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            log.error("background work failed", work=name, exc_info=error)

    future.add_done_callback(ended)


def log_what_is_left(loop: asyncio.AbstractEventLoop) -> None:
    """Failures of callbacks, which belong to nobody, become lines of the log."""

    def failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("event loop", problem=context["message"], exc_info=context.get("exception"))

    loop.set_exception_handler(failed)
