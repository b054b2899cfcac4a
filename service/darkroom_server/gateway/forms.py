"""Multipart bodies: text and files, bounded by counting what arrives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from darkroom_server.domain.errors import InvalidParameter, RequestTooLarge
from darkroom_server.gateway.bodies import MAX_BODY_BYTES

#: More parts than any client sends.
_MAX_PART_COUNT = 64


async def read_form(request: Request) -> dict[str, Any]:
    """The parts by name, files as bytes; a part that is repeated is a list of its values.

    Names may end with `[]`, as clients write lists. Raises InvalidParameter, RequestTooLarge.
    """
    parser = MultiPartParser(
        request.headers,
        counted(request.stream()),
        max_files=_MAX_PART_COUNT,
        max_fields=_MAX_PART_COUNT,
        # Files may come as base64 text too; the whole is bounded anyway.
        max_part_size=MAX_BODY_BYTES,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as error:
        raise InvalidParameter("request", "the body is no multipart form") from error
    found: dict[str, list[Any]] = {}
    try:
        for name, value in form.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value
            found.setdefault(name.removesuffix("[]"), []).append(content)
    finally:
        await form.close()
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


async def counted(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces of a body as they come; raises RequestTooLarge when they are too many."""
    length_bytes = 0
    async for piece in stream:
        length_bytes += len(piece)
        if length_bytes > MAX_BODY_BYTES:
            raise RequestTooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
        yield piece
