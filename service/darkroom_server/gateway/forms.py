"""Multipart bodies: text and files, bounded by counting what arrives."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.gateway.bodies import MAX_BODY_BYTES, counted

#: More parts than any client sends.
_MAX_PART_COUNT = 64


async def read_form(request: Request) -> dict[str, Any]:
    """The parts by name, files as bytes; a part that is repeated is a list of its values.

    Names may end with `[]`, as clients write lists. Raises InvalidParameter, RequestTooLarge,
    Cancelled.
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
