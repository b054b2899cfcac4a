"""A stream of inference requests: they run at the same time, and answers come as they are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Final, TypeAlias

import structlog

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_server.access.caller import current_caller, set_caller
from darkroom_server.background import begin
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.wire.kserve.inputs import FINAL_RESPONSE
from darkroom_server.wire.status import status_of

#: Requests of a stream that run at the same time. More are not read until one has ended.
MAX_RUNNING: Final = 64
#: Answers that wait to be sent. What makes them waits in turn.
_MAX_WAITING: Final = 4

log = structlog.get_logger("darkroom.rpc")

#: Answers one request.
Run: TypeAlias = "Callable[[pb.ModelInferRequest], AsyncGenerator[pb.ModelInferResponse, None]]"


class InferenceStream:
    """The requests of one stream. An error of one is its response, and does not end the others.

    With `ends_on_error` it ends the stream with its status instead.
    """

    def __init__(self, run: Run, request_id: str, *, ends_on_error: bool) -> None:
        self._run = run
        self._request_id = request_id
        self._ends_on_error = ends_on_error
        self._room = asyncio.Semaphore(MAX_RUNNING)
        self._answers: asyncio.Queue[pb.ModelStreamInferResponse | None]
        self._answers = asyncio.Queue(_MAX_WAITING)
        self._running: set[asyncio.Task[None]] = set()
        #: What ends the stream before its time.
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answers(
        self, requests: AsyncIterator[pb.ModelInferRequest]
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Reads all requests and answers them. Closed, it takes back those that run."""
        self._start(self._read(requests))
        try:
            while (answer := await self._next()) is not None:
                yield answer
        finally:
            tasks = tuple(self._running)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not self._failure.cancel():
                # It has been raised, or a later end came before it.
                self._failure.exception()

    async def _next(self) -> pb.ModelStreamInferResponse | None:
        """The next answer, None after the last; raises what ends the stream."""
        answer = asyncio.ensure_future(self._answers.get())
        try:
            either: set[asyncio.Future[Any]] = {answer, self._failure}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self._failure.result()
            return answer.result()
        finally:
            answer.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        # What it raises is sent to the caller here, or by the interceptor.
        task = begin("request of a stream", work, expected=(Exception,))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _read(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        """Starts the requests as they come, and returns when all have ended."""
        async for request in requests:
            await self._room.acquire()
            self._start(self._answer(request))
            # Its task has it now: what is answered is not kept for the length of the stream.
            del request
        for _ in range(MAX_RUNNING):
            await self._room.acquire()
        await self._answers.put(None)

    async def _answer(self, request: pb.ModelInferRequest) -> None:
        """Answers one request, in a task of its own: the caller is counted for each."""
        try:
            set_caller(current_caller().again())
            await current_caller().count()
            async with aclosing(self._run(request)) as answers:
                async for answer in answers:
                    await self._answers.put(pb.ModelStreamInferResponse(infer_response=answer))
        except DarkroomError as error:
            if self._ends_on_error:
                raise
            status = status_of(error, self._request_id)
            log.info("request of a stream failed", id=request.id[:128], error=status.message)
            await self._answers.put(_failed(request, status.message))
        finally:
            self._room.release()


def _failed(request: pb.ModelInferRequest, message: str) -> pb.ModelStreamInferResponse:
    """What became of a request of which nothing more comes."""
    return pb.ModelStreamInferResponse(
        error_message=message,
        infer_response=pb.ModelInferResponse(
            model_name=request.model_name,
            id=request.id,
            parameters={FINAL_RESPONSE: pb.InferParameter(bool_param=True)},
        ),
    )
