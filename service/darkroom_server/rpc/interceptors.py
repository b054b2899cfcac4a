"""The outermost layer of every call: its id, its key, its log line, a status for every error."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc import aio

from darkroom_server.access.gate import Gate
from darkroom_server.domain.errors import DarkroomError, InvalidParameter
from darkroom_server.telemetry.metrics import REQUESTS, Metrics
from darkroom_server.wire.calls import CallNotes, begin_call
from darkroom_server.wire.needs import let_in
from darkroom_server.wire.status import (
    internal_status,
    retry_pushback_ms,
    status_of,
    unimplemented_status,
)

REQUEST_ID_KEY = "x-request-id"
AUTHORIZATION_KEY = "authorization"
_SANE_ID = re.compile(r"[!-~]{1,128}")
#: Probes come every few seconds; their lines would bury the others.
_QUIET_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")

_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in its stubs only

logger = structlog.get_logger("darkroom.rpc")


class CallInterceptor(aio.ServerInterceptor):
    """Wraps every method of every service on the server.

    A call's id is the caller's `x-request-id` if it is sane, else made here; it returns in the
    initial metadata, or in the trailing metadata of a call that fails before its first message.
    Nothing is done for a caller without the key that the method needs. With `names_peers` the log
    has the name in the client's certificate.
    """

    def __init__(self, metrics: Metrics, gate: Gate, *, names_peers: bool = False) -> None:
        self._metrics = metrics
        self._gate = gate
        self._names_peers = names_peers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """The handler, wrapped; None when no service has the method."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        call = _Call(handler_call_details, self._metrics, self._gate, self._names_peers)
        # Requests arrive as bytes: gRPC would tell the caller about its own exception otherwise.
        codecs = (None, handler.response_serializer)
        one = functools.partial(_read, handler.request_deserializer or bytes)
        several = functools.partial(_read_all, handler.request_deserializer or bytes)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _streaming(handler.unary_stream, one, call), *codecs
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _streaming(handler.stream_stream, several, call), *codecs
            )
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _single(handler.stream_unary, several, call), *codecs
            )
        return grpc.unary_unary_rpc_method_handler(_single(handler.unary_unary, one, call), *codecs)


class _Call:
    """One call: what the log and the metrics say of it."""

    def __init__(
        self,
        details: grpc.HandlerCallDetails,
        metrics: Metrics,
        gate: Gate,
        names_peers: bool,
    ) -> None:
        self._method = details.method
        self._metrics = metrics
        self._gate = gate
        self._names_peers = names_peers
        self._authorization = _first(details, AUTHORIZATION_KEY)
        sane_id = _SANE_ID.fullmatch(_first(details, REQUEST_ID_KEY) or "")
        self.request_id = sane_id[0] if sane_id else uuid.uuid4().hex
        self._quiet = details.method.startswith(_QUIET_SERVICES)
        self._started_s = time.monotonic()
        self.notes = CallNotes(self.request_id)
        self.log = logger.bind(method=details.method, request_id=self.request_id)

    def enter(self, context: _Context) -> None:
        """Lets the caller in; raises InvalidApiKey, PermissionDenied."""
        if self._names_peers:
            name = next(iter(context.auth_context().get("x509_common_name", ())), b"")
            self.log = self.log.bind(peer=name.decode("utf-8", "replace"))
        let_in(self._gate, self._method, self._authorization, connection=context.peer())

    def ended(self, code: grpc.StatusCode) -> None:
        """Counts the call and writes the access line."""
        self._metrics.count(REQUESTS, (self._method, self.notes.model, code.name))
        duration_ms = round((time.monotonic() - self._started_s) * 1000, 1)
        write = self.log.debug if self._quiet else self.log.info
        self.notes.code = code.name
        write("call", duration_ms=duration_ms, **self.notes.told())


def _first(details: grpc.HandlerCallDetails, wanted: str) -> str | None:
    """The first value of a key of the metadata."""
    for key, value in details.invocation_metadata or ():
        if key == wanted and isinstance(value, str):
            return value
    return None


def _read(deserialize: Callable[[bytes], Any], content: bytes) -> Any:
    """The request message; raises InvalidParameter for bytes that are none."""
    try:
        return deserialize(content)
    except DecodeError as error:
        raise InvalidParameter("request", "the bytes are no message of this method") from error


async def _read_all(
    deserialize: Callable[[bytes], Any], contents: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for content in contents:
        yield _read(deserialize, content)


def _streaming(behavior: Any, read: Callable[[Any], Any], call: _Call) -> Any:
    async def answer(request: Any, context: _Context) -> AsyncIterator[Any]:
        async with _answering(call, context):
            started = False
            async with aclosing(behavior(read(request), context)) as responses:
                async for response in responses:
                    if not started:
                        await _send_id(call, context)
                        started = True
                    yield response

    return answer


def _single(behavior: Any, read: Callable[[Any], Any], call: _Call) -> Any:
    async def answer(request: Any, context: _Context) -> Any:
        async with _answering(call, context):
            response = behavior(read(request), context)
            if inspect.isawaitable(response):
                response = await response
            await _send_id(call, context)
            return response

    return answer


async def _send_id(call: _Call, context: _Context) -> None:
    # A client may retry only until these headers arrive, so they leave with the first message.
    await context.send_initial_metadata(((REQUEST_ID_KEY, call.request_id),))


@asynccontextmanager
async def _answering(call: _Call, context: _Context) -> AsyncIterator[None]:
    """Turns what the block raises into a status, and logs how the call ended.

    A caller that has gone shows as CancelledError, or as GeneratorExit when it had stopped reading;
    both pass, so that everything below is released.
    """
    begin_call(call.notes)
    try:
        call.enter(context)
        yield
    except DarkroomError as error:
        await _abort(call, context, status_of(error, call.request_id), retry_pushback_ms(error))
    except NotImplementedError:
        await _abort(call, context, unimplemented_status())
    except (asyncio.CancelledError, GeneratorExit):
        call.ended(_why_gone(context))
        raise
    except Exception:
        call.log.exception("unhandled error")
        await _abort(call, context, internal_status(call.request_id))
    else:
        call.ended(grpc.StatusCode.OK)


def _why_gone(context: _Context) -> grpc.StatusCode:
    remaining_s: float | None = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


async def _abort(
    call: _Call, context: _Context, status: status_pb2.Status, pushback_ms: int | None = None
) -> None:
    """Ends the call with the status; always raises."""
    code = _CODES[status.code]
    trailers: list[tuple[str, str | bytes]] = [
        (REQUEST_ID_KEY, call.request_id),
        ("grpc-status-details-bin", status.SerializeToString()),
    ]
    if pushback_ms is not None:
        trailers.append(("grpc-retry-pushback-ms", str(pushback_ms)))
    call.ended(code)
    await context.abort(code, status.message, tuple(trailers))


_CODES = {code.value[0]: code for code in grpc.StatusCode}
