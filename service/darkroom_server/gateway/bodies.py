"""Bodies of HTTP requests, bounded by counting what arrives."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, ParamSpec, TypeVar

from starlette.requests import ClientDisconnect

from darkroom_server.domain.errors import Cancelled, InvalidParameter, RequestTooLarge
from darkroom_server.gateway.body_holds import body_parsed

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

#: Base64 takes four bytes for three, and the rest of a request is small.
MAX_BODY_BYTES = 96 << 20
#: Values of a JSON body: far more than any request has. As objects they take up to 100 bytes each.
MAX_JSON_VALUE_COUNT = 100_000
#: What parts values in JSON.
_JSON_MARKS = b",:[{"
_COUNTED_AT_ONCE_BYTES = 1 << 20

#: Threads that parse bodies and do nothing else: what takes longer is done by others.
_PARSERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="parse")


async def off_loop(
    work: Callable[_Given, _Result], *args: _Given.args, **named: _Given.kwargs
) -> _Result:
    """What the work makes of a body, in a thread for bodies; the body then no longer counts as
    one that is held (`body_holds.py`).
    """
    try:
        parsing = functools.partial(work, *args, **named)
        return await asyncio.get_running_loop().run_in_executor(_PARSERS, parsing)
    finally:
        body_parsed()


async def read_body(stream: AsyncIterator[bytes]) -> bytearray:
    """The whole body; raises RequestTooLarge, Cancelled."""
    body = bytearray()
    async for piece in counted(stream):
        body += piece
    return body


async def counted(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces of a body as they come.

    Raises RequestTooLarge when they are too many, Cancelled when the caller has gone.
    """
    length_bytes = 0
    try:
        async for piece in stream:
            # Counted, for what a caller says of the length need not be true.
            length_bytes += len(piece)
            if length_bytes > MAX_BODY_BYTES:
                raise RequestTooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
            yield piece
    except ClientDisconnect as error:
        raise Cancelled("the caller has gone") from error


async def read_object(stream: AsyncIterator[bytes]) -> dict[str, Any]:
    """The JSON object that the body is, parsed off the loop.

    Raises InvalidParameter, RequestTooLarge, and Cancelled when the caller has left.
    """
    return await off_loop(parse_object, await read_body(stream))


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object; raises InvalidParameter."""
    require_few_values(body)
    try:
        found = json.loads(body, parse_constant=_refused, parse_float=_finite)
    except RecursionError as error:
        raise InvalidParameter("request", "the body is nested too deeply") from error
    except ValueError as error:
        raise InvalidParameter("request", "the body is no JSON") from error
    if not isinstance(found, dict):
        raise InvalidParameter("request", "the body is no JSON object")
    return found


def require_few_values(body: bytes | bytearray) -> None:
    """Raises InvalidParameter for JSON of more values than a request has, before any is made.

    While they are made nothing else runs in this process, and a megabyte of `[],` takes thirty.
    Separators of values are counted, also within texts: no valid request has that many.
    """
    mark_count = 0
    for begin in range(0, len(body), _COUNTED_AT_ONCE_BYTES):
        end = begin + _COUNTED_AT_ONCE_BYTES
        mark_count += sum(body.count(mark, begin, end) for mark in _JSON_MARKS)
        if mark_count > MAX_JSON_VALUE_COUNT:
            text = f"the body has more than {MAX_JSON_VALUE_COUNT} values"
            raise InvalidParameter("request", text)


def _refused(constant: str) -> NoReturn:
    raise InvalidParameter("request", f"{constant} is in the body, and is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise InvalidParameter("request", "a number in the body is too large")
    return number
