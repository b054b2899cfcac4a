"""Bodies of HTTP requests, bounded by counting what arrives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from darkroom_server.domain.errors import InvalidParameter, RequestTooLarge

#: Base64 takes four bytes for three, and the rest of a request is small.
MAX_BODY_BYTES = 96 << 20


async def read_body(stream: AsyncIterator[bytes]) -> bytearray:
    """The whole body; raises RequestTooLarge."""
    body = bytearray()
    async for piece in stream:
        # Counted, for what a caller says of the length need not be true.
        if len(body) + len(piece) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
        body += piece
    return body


async def read_object(stream: AsyncIterator[bytes]) -> dict[str, Any]:
    """The JSON object that the body is, parsed off the loop; raises InvalidParameter."""
    return await asyncio.to_thread(parse_object, await read_body(stream))


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object; raises InvalidParameter."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter("request", "the body is no JSON") from error
    if not isinstance(found, dict):
        raise InvalidParameter("request", "the body is no JSON object")
    return found
