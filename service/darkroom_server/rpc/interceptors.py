"""The outermost layer of every call: its id, its key, its log line, a status for every error."""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from darkroom_server.access.gate import Gate
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.rpc.load_reports import LOAD_KEY, LOAD_SERVICE, LoadReports
from darkroom_server.rpc.open_calls import CallKind, OpenCalls
from darkroom_server.rpc.receiving import Receiving
from darkroom_server.rpc.sending import Sending
from darkroom_server.telemetry.metric_list import REQUESTS
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.telemetry.traces import (
    TRACE_PARENT_KEY,
    TRACE_STATE_KEY,
    begin_span,
    headers_of,
)
from darkroom_server.wire.calls import (
    REQUEST_ID_KEY,
    CallNotes,
    Failure,
    begin_call,
    failure_of,
    request_id,
    why_gone,
)
from darkroom_server.wire.field_count import SMALL_BYTES, require_few_fields
from darkroom_server.wire.permissions import count_call, let_in

AUTHORIZATION_KEY = "authorization"
#: Probes come every few seconds; their lines would bury the others.
_PROBES = (
    *("/grpc.health.v1.Health/", "/grpc.reflection."),
    *(f"/inference.GRPCInferenceService/{name}" for name in ("Server", "ModelReady")),
)
#: Of whose streams callers may be silent between two messages.
_PAUSING_SERVICES = ("/inference.",)

_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its stubs only
_Receive: TypeAlias = "Callable[[_Context], Awaitable[Any]]"
_Begin: TypeAlias = "Callable[[_Context], AbstractAsyncContextManager[_Call]]"

logger = structlog.get_logger("darkroom.rpc")


class CallInterceptor(aio.ServerInterceptor):
    """Wraps every method of every service on the server.

    A call's id is the caller's `x-request-id` if it is sane, else made here; it returns in the
    initial metadata, or in the trailing metadata of a call that fails before its first message.
    Nothing is done for a caller without the key that the method needs, and no byte of its message
    is read. With `names_peers` the log has the name in the client's certificate.
    """

    def __init__(
        self,
        metrics: Metrics,
        gate: Gate,
        receiving: Receiving,
        sending: Sending,
        reports: LoadReports,
        *,
        names_peers: bool = False,
    ) -> None:
        self._metrics = metrics
        self._gate = gate
        self._receiving = receiving
        self._sending = sending
        self._reports = reports
        self._names_peers = names_peers
        #: Those that are open now.
        self.open_calls = OpenCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """The handler, wrapped; None when no service has the method.

        To gRPC every method takes a stream: of others it reads the request before it asks the
        handler, from callers without a key too, and for as long as they like.
        """
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        begin = functools.partial(self._begin, handler_call_details)
        # Requests arrive as bytes: otherwise gRPC would send its own exception to the caller.
        codecs = (None, handler.response_serializer)
        deserialize = handler.request_deserializer or bytes
        read = _read_all if handler.request_streaming else _read_one
        if handler.request_streaming and method.startswith(_PAUSING_SERVICES):
            read = _read_with_pauses
        receive = functools.partial(read, self._receiving, deserialize)
        if handler.response_streaming:
            behavior = handler.stream_stream or handler.unary_stream
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(behavior, receive, begin), *codecs
            )
        behavior = handler.stream_unary or handler.unary_unary
        return grpc.stream_unary_rpc_method_handler(self._single(behavior, receive, begin), *codecs)

    @asynccontextmanager
    async def _begin(
        self, details: grpc.HandlerCallDetails, context: _Context
    ) -> AsyncIterator[_Call]:
        """The call, while it is answered. What is raised becomes its status.

        Who resets a call at once is gone when the loop has come round. Before that nothing is done
        for it: many thousands of such calls cost those who stay little.
        """
        kind = _kind(details.method)
        is_quiet = kind is not CallKind.WORK
        with self.open_calls.one(kind) as room:
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                self._metrics.count(REQUESTS, (details.method, "", grpc.StatusCode.CANCELLED.name))
                raise
            call = _Call(
                details,
                self._metrics,
                self._gate,
                self._reports,
                self._names_peers,
                quiet=is_quiet,
            )
            async with _answering(call, context):
                room.require()
                yield call

    def _streaming(self, behavior: Any, receive: _Receive, begin: _Begin) -> Any:
        async def answer(_contents: Any, context: _Context) -> None:
            async with begin(context) as call:
                with self._sending.to(context):
                    # Nothing here has a name: an error's frames would hold it.
                    await self._send_all(behavior(await receive(context), context), context, call)

        return answer

    async def _send_all(
        self, answers: AsyncGenerator[Any, None], context: _Context, call: _Call
    ) -> None:
        started = False
        async with aclosing(answers) as responses:
            async for response in responses:
                if not started:
                    await _send_id(call, context)
                    started = True
                await self._sending.send(response, context)

    def _single(self, behavior: Any, receive: _Receive, begin: _Begin) -> Any:
        async def answer(_contents: Any, context: _Context) -> Any:
            async with begin(context) as call:
                response = behavior(await receive(context), context)
                if inspect.isawaitable(response):
                    response = await response
                await _send_id(call, context)
                return response

        return answer


class _Call:
    """One call: what the log and the metrics say of it."""

    def __init__(
        self,
        details: grpc.HandlerCallDetails,
        metrics: Metrics,
        gate: Gate,
        reports: LoadReports,
        names_peers: bool,
        *,
        quiet: bool,
    ) -> None:
        self.method = details.method
        self._metrics = metrics
        self._gate = gate
        self._reports = reports
        self._names_peers = names_peers
        self._authorization = _first(details, AUTHORIZATION_KEY)
        self.request_id = request_id(_first(details, REQUEST_ID_KEY))
        self.quiet = quiet
        self._started_s = time.monotonic()
        span = begin_span(
            details.method.lstrip("/"), _trace_context(details), is_exported=not self.quiet
        )
        self.notes = CallNotes(self.request_id, rpc=details.method, span=span, metrics=metrics)
        self.log = logger.bind(method=details.method)

    def enter(self, context: _Context) -> None:
        """Lets the caller in; raises InvalidApiKey, PermissionDenied."""
        if self._names_peers:
            name = next(iter(context.auth_context().get("x509_common_name", ())), b"")
            self.log = self.log.bind(peer=name.decode("utf-8", "replace"))
        let_in(self._gate, self.method, self._authorization, connection=context.peer())

    def ended(self, code: grpc.StatusCode) -> list[tuple[str, str | bytes]]:
        """Counts the call and writes the access line; the load, as trailers of all but probes."""
        self.notes.count(self._metrics, code)
        duration_s = time.monotonic() - self._started_s
        self.notes.log(self.log, "call", duration_s, quiet=self.quiet)
        self.notes.ended()
        if self.quiet:
            return []
        return [(LOAD_KEY, self._reports.ended(code, self.notes.device_s))]


def _kind(method: str) -> CallKind:
    if method.startswith(f"/{LOAD_SERVICE}/"):
        return CallKind.LOAD_REPORTS
    return CallKind.PROBE if method.startswith(_PROBES) else CallKind.WORK


def _first(details: grpc.HandlerCallDetails, wanted: str) -> str | None:
    """The first value of a key of the metadata."""
    for key, value in details.invocation_metadata or ():
        if key == wanted and isinstance(value, str):
            return value
    return None


def _trace_context(details: grpc.HandlerCallDetails) -> dict[str, str]:
    found = ((key, _first(details, key)) for key in (TRACE_PARENT_KEY, TRACE_STATE_KEY))
    return {key: value for key, value in found if value}


async def _read_one(
    receiving: Receiving, deserialize: Callable[[bytes], Any], context: _Context
) -> Any:
    """The request message; raises InvalidParameter for bytes that are none."""
    content = await receiving.message(context)
    if content is None:
        raise InvalidParameter("request", "the call ended without a message")
    return _parsed(deserialize, content)


async def _read_all(
    receiving: Receiving, deserialize: Callable[[bytes], Any], context: _Context
) -> AsyncIterator[Any]:
    """The request messages as they come; to read one raises InvalidParameter as above."""

    async def messages() -> AsyncIterator[Any]:
        while (content := await receiving.message(context)) is not None:
            yield _parsed(deserialize, content)

    return messages()


async def _read_with_pauses(
    receiving: Receiving, deserialize: Callable[[bytes], Any], context: _Context
) -> AsyncIterator[Any]:
    """As `_read_all`, of a stream that stays open: only its first message has a time limit."""

    async def messages() -> AsyncIterator[Any]:
        content = await receiving.message(context)
        while content is not None:
            yield _parsed(deserialize, content)
            content = await receiving.later_message(context)

    return messages()


def _parsed(deserialize: Callable[[bytes], Any], content: bytes) -> Any:
    # It is `FromString` of the message's class.
    kind = getattr(getattr(deserialize, "__self__", None), "DESCRIPTOR", None)
    if kind is not None and len(content) >= SMALL_BYTES:
        require_few_fields(content, kind)
    try:
        return deserialize(content)
    except DecodeError as error:
        raise InvalidParameter("request", "the bytes are no message of this method") from error


async def _send_id(call: _Call, context: _Context) -> None:
    # A client may retry only until these headers arrive, so they leave with the first message.
    metadata = {REQUEST_ID_KEY: call.request_id, **headers_of(call.notes.span)}
    await context.send_initial_metadata(tuple(metadata.items()))


@asynccontextmanager
async def _answering(call: _Call, context: _Context) -> AsyncIterator[None]:
    """Turns what the block raises into a status, and logs how the call ended.

    A caller that has gone shows as CancelledError, which passes, so that everything below is
    released.
    """
    begin_call(call.notes)
    try:
        call.enter(context)
        await count_call(call.method)
        yield
    except asyncio.CancelledError:
        call.ended(why_gone(context.time_remaining()))
        raise
    except Exception as error:
        failure = failure_of(error, call.request_id, call.log)
        _let_go(error)
        await _abort(call, context, failure)
    else:
        context.set_trailing_metadata(tuple(call.ended(grpc.StatusCode.OK)))


def _let_go(error: BaseException | None) -> None:
    """Frees what the frames hold that the error has passed: the request and its images.

    The status may wait for long behind what the caller does not read, and gRPC keeps the error of
    a call that has ended until another ends.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


async def _abort(call: _Call, context: _Context, failure: Failure) -> None:
    """Ends the call with the status; always raises."""
    status = failure.status
    trailers: list[tuple[str, str | bytes]] = [
        (REQUEST_ID_KEY, call.request_id),
        *headers_of(call.notes.span).items(),
        ("grpc-status-details-bin", status.SerializeToString()),
    ]
    if failure.pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(failure.pushback_ms)))
    trailers += call.ended(failure.code)
    await context.abort(failure.code, status.message, tuple(trailers))
