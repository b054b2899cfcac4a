"""Multipart bodies: text and files, bounded by counting what arrives."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.gateway.bodies import MAX_BODY_BYTES, counted

#: More parts than any client sends.
_MAX_PART_COUNT = 64
#: How clients write that a name stands for a list: `image[]`, `image[0]`.
_LIST_MARK = re.compile(r"\[\d*\]$")
#: Maps every byte to a character and back.
_BYTEWISE = "latin-1"


def is_form(request: Request) -> bool:
    """Whether the body is said to be a multipart form."""
    kind, _ = parse_options_header(request.headers.get("content-type"))
    return kind.lower() == b"multipart/form-data"


async def read_form(request: Request) -> dict[str, Any]:
    """The parts by name, files as bytes; a part that is repeated is a list of its values.

    Names may end with `[]` or `[0]`, as clients write lists. What is no text is a file, whether it
    has a file's name or not. Raises InvalidParameter, RequestTooLarge, Cancelled.
    """
    parser = MultiPartParser(
        _bytewise(request.headers),
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
            content = await value.read() if isinstance(value, UploadFile) else _text_or_file(value)
            shown = name.encode(_BYTEWISE).decode(errors="replace")
            found.setdefault(_LIST_MARK.sub("", shown), []).append(content)
    finally:
        await form.close()
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _bytewise(headers: Headers) -> Headers:
    """The content type, so that the parser changes no byte of a part: text or not is seen later."""
    _, options = parse_options_header(headers.get("content-type"))
    boundary = options.get(b"boundary", b"").decode(_BYTEWISE)
    if not boundary:
        raise InvalidParameter("request", "the form's content type names no boundary")
    kind = f'multipart/form-data; boundary="{boundary}"; charset={_BYTEWISE}'
    return Headers({"content-type": kind})


def _text_or_file(value: str) -> str | bytes:
    content = value.encode(_BYTEWISE)
    if content[8:12] == b"WEBP":
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content
