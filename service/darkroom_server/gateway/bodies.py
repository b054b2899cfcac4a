"""Bodies of HTTP requests, bounded by counting what arrives."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect

from darkroom_server.domain.errors import Cancelled, InvalidParameter, RequestTooLarge

#: Base64 takes four bytes for three, and the rest of a request is small.
MAX_BODY_BYTES = 96 << 20


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
    """The JSON object that the body is, parsed off the loop; raises as the two do."""
    return await asyncio.to_thread(parse_object, await read_body(stream))


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object; raises InvalidParameter."""
    try:
        found = json.loads(body, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("request", "the body is no JSON") from error
    if not isinstance(found, dict):
        raise InvalidParameter("request", "the body is no JSON object")
    return found


def _refused(constant: str) -> NoReturn:
    raise InvalidParameter("request", f"{constant} is in the body, and is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise InvalidParameter("request", "a number in the body is too large")
    return number
