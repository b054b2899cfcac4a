"""The innermost layer of Connect and gRPC-Web calls: requests are read, errors become statuses.

Their id, log line and HTTP metric come from `request_ids.py`, as those of every HTTP call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc
import structlog
from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.request import RequestContext
from protobuf.wkt import Any as Packed

from darkroom_server.access.gate import Gate
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.gateway.bodies import off_loop
from darkroom_server.gateway.connect_codecs import Unread
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.wire.calls import Failure, current_call, failure_of, why_gone
from darkroom_server.wire.permissions import count_call, let_in

_Context = RequestContext[Any, Any]

log = structlog.get_logger("darkroom.gateway")


class DoorInterceptor:
    """Lets callers in, before a byte of their message is read."""

    def __init__(self, metrics: Metrics, gate: Gate) -> None:
        self._metrics = metrics
        self._gate = gate

    async def on_start(self, ctx: _Context) -> None:
        """Raises for a caller without the key that the method needs."""
        call = current_call()
        call.rpc = f"/{ctx.method.service_name}/{ctx.method.name}"
        try:
            authorization = ctx.request_headers.get("authorization")
            let_in(self._gate, call.rpc, authorization, connection=ctx.client_address or "")
            await count_call(call.rpc)
        except DarkroomError as error:
            raise self._refusal(error, ctx) from error

    async def on_end(self, token: None, ctx: _Context, error: Exception | None) -> None:
        """Raises what a body that could not be had is answered with."""
        del token
        # The other interceptor has handled every error after the body was read.
        if isinstance(error, DarkroomError):
            raise self._refusal(error, ctx) from error

    def _refusal(self, error: DarkroomError, ctx: _Context) -> ConnectError:
        call = current_call()
        failure = failure_of(error, call.request_id, log)
        call.count(self._metrics, failure.code)
        return _connect_error(failure, ctx)


class ConnectInterceptor:
    """Wraps every method; what is below it raises Darkroom's errors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_unary(
        self, call_next: Callable[[Any, _Context], Awaitable[Any]], request: Unread, ctx: _Context
    ) -> Any:
        """One message in, one out."""
        with self._answering(ctx):
            return await call_next(await off_loop(request.read), ctx)

    async def intercept_server_stream(
        self,
        call_next: Callable[[Any, _Context], AsyncGenerator[Any, None]],
        request: Unread,
        ctx: _Context,
    ) -> AsyncIterator[Any]:
        """One message in, several out."""
        with self._answering(ctx):
            message = await off_loop(request.read)
            async with aclosing(call_next(message, ctx)) as responses:
                async for response in responses:
                    yield response

    @contextmanager
    def _answering(self, ctx: _Context) -> Iterator[None]:
        """Turns what the block raises into a status, and counts the call by it."""
        code = grpc.StatusCode.OK
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            remaining_ms = ctx.timeout_ms
            code = why_gone(None if remaining_ms is None else remaining_ms / 1000)
            raise
        except Exception as error:
            failure = failure_of(error, current_call().request_id, log)
            code = failure.code
            raise _connect_error(failure, ctx) from error
        finally:
            current_call().count(self._metrics, code)


def _connect_error(failure: Failure, ctx: _Context) -> ConnectError:
    """The same in Connect's words; when to try again goes into the trailers."""
    if failure.pushback_ms is not None:
        ctx.response_trailers["grpc-retry-pushback-ms"] = str(failure.pushback_ms)
    status, name = failure.status, failure.code.name
    details = [ErrorDetail(Packed(type_url=d.type_url, value=d.value)) for d in status.details]
    # The one code that Connect spells its own way.
    return ConnectError(Code["CANCELED" if name == "CANCELLED" else name], status.message, details)
