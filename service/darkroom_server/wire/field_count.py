"""Counts the fields of a message before it is parsed: millions of them stop the event loop."""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor

from darkroom_server.domain.errors import InvalidParameter

#: Fields of a message and of those in it, elements of repeated ones and entries of maps among them.
#: No request that is served has nearly as many; to parse 5,000 takes a few milliseconds.
MAX_FIELD_COUNT: Final = 5_000
#: What is smaller has no more: a field takes two bytes at least.
SMALL_BYTES: Final = 2 * MAX_FIELD_COUNT
_MAX_VARINT_BYTES: Final = 10


def require_few_fields(content: bytes, kind: Descriptor) -> None:
    """Raises InvalidParameter for a message of that kind with more fields than any request has.

    It looks at no more of them. What is no message is refused here, too: the parser would see that
    only after what comes before the fault.
    """
    if len(content) >= SMALL_BYTES and _counted(content, kind) > MAX_FIELD_COUNT:
        raise InvalidParameter(
            "request", f"has more than {MAX_FIELD_COUNT} fields and elements, which no request has"
        )


def _counted(content: bytes, kind: Descriptor) -> int:
    count = 0
    waiting: list[tuple[int, int, Descriptor]] = [(0, len(content), kind)]
    while waiting:
        at, end, inside = waiting.pop()
        while at < end:
            count += 1
            if count > MAX_FIELD_COUNT:
                return count
            tag, at = _varint(content, at)
            match tag & 7:
                case 0:
                    _, at = _varint(content, at)
                case 1:
                    at += 8
                case 2:
                    size_bytes, at = _varint(content, at)
                    field = inside.fields_by_number.get(tag >> 3)
                    if field is not None and field.message_type is not None:
                        waiting.append((at, min(end, at + size_bytes), field.message_type))
                    at += size_bytes
                case 3 | 4:
                    # Fields of a group follow, and are counted like these.
                    pass
                case 5:
                    at += 4
                case _:
                    raise _malformed()
    return count


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins there, and where what follows it begins."""
    found = 0
    for shift in range(_MAX_VARINT_BYTES):
        if at >= len(content):
            raise _malformed()
        byte = content[at]
        at += 1
        found |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return found, at
    raise _malformed()


def _malformed() -> InvalidParameter:
    return InvalidParameter("request", "the bytes are no message of this method")
