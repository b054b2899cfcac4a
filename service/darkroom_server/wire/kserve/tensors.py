"""Tensors of the Open Inference Protocol: elements as bytes, and bytes as elements.

Numbers travel raw, little-endian, row by row. An element of BYTES is its length in four bytes and
then itself.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.parameters.bounds import MAX_REFERENCE_COUNT

#: One element, or the value of a parameter.
Scalar: TypeAlias = bool | int | float | str | bytes
#: One element, or all of an input that has any number of them.
Elements: TypeAlias = Scalar | tuple[Scalar, ...]

BYTES: Final = "BYTES"
#: Elements of an input that takes several.
MAX_ELEMENT_COUNT: Final = MAX_REFERENCE_COUNT
_MAX_DIMENSION_COUNT = 16
#: How the numbers are laid out.
_FORMATS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
DATATYPES: Final = (*_FORMATS, BYTES)
_LENGTH = struct.Struct("<I")
#: Digits that distinguish every number of 32 bits from the next one.
_FP32_DIGITS = range(6, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
    """An output with its elements, in one dimension."""

    name: str
    datatype: str
    elements: tuple[Scalar, ...]


def require_few(name: str, count: int, most: int, what: str) -> None:
    """Raises InvalidParameter for more than are ever taken, before any of them is read."""
    if count > most:
        raise InvalidParameter(name[:64], f"has {count} {what}; at most {most} are taken")


def element_count(name: str, shape: Sequence[int]) -> int:
    """How many elements a tensor of the shape has; raises InvalidParameter."""
    require_few(name, len(shape), _MAX_DIMENSION_COUNT, "dimensions")
    if any(size < 0 for size in shape):
        raise InvalidParameter(name, f"the shape {list(shape)} has a negative dimension")
    return math.prod(shape)


def one_element(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Scalar:
    """The only element of a raw tensor; of UINT8, which may be a file, all of it as bytes.

    Raises InvalidParameter naming the tensor.
    """
    count = element_count(name, shape)
    if datatype == "UINT8" and count != 1:
        if len(raw) != count:
            raise InvalidParameter(name, f"{len(raw)} bytes of content are not {count} of UINT8")
        return raw
    require_one(name, shape)
    if datatype == BYTES:
        return _bytes_element(name, raw)
    layout = _layout(name, datatype)
    if len(raw) != layout.size:
        raise InvalidParameter(
            name, f"{len(raw)} bytes of content, where {datatype} takes {layout.size}"
        )
    return as_number(layout.unpack(raw)[0], datatype)


def bytes_elements(name: str, shape: Sequence[int], raw: bytes) -> tuple[bytes, ...]:
    """All elements of a raw tensor of BYTES; raises InvalidParameter naming it."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        require_few(name, len(found) + 1, MAX_ELEMENT_COUNT, "elements or more")
        if len(raw) - at < _LENGTH.size:
            raise InvalidParameter(name, "the content ends within the length of an element")
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise InvalidParameter(name, "the content ends within an element")
        found.append(raw[begin:at])
    if len(found) != element_count(name, shape):
        raise InvalidParameter(name, f"{len(found)} elements do not fit the shape {list(shape)}")
    return tuple(found)


def require_one(name: str, shape: Sequence[int]) -> None:
    """Raises InvalidParameter for a tensor of more elements, or of none."""
    count = element_count(name, shape)
    if count != 1:
        raise InvalidParameter(
            name,
            f"the shape {list(shape)} has {count} elements and 1 is taken: send one request for "
            "each prompt, the server runs them together",
        )


def as_number(value: Scalar, datatype: str) -> Scalar:
    """The element as it was meant: of 32 bits, 7.1 is not 7.099999904632568."""
    if datatype != "FP32" or not isinstance(value, float) or not math.isfinite(value):
        return value
    wanted = struct.pack("<f", value)
    candidates = (float(f"{value:.{digits}g}") for digits in _FP32_DIGITS)
    return next((one for one in candidates if struct.pack("<f", one) == wanted), value)


def raw_content(output: OutputTensor) -> bytes:
    """The elements as they travel."""
    if output.datatype == BYTES:
        content = bytearray()
        for element in output.elements:
            encoded = element if isinstance(element, bytes) else str(element).encode()
            content += _LENGTH.pack(len(encoded)) + encoded
        return bytes(content)
    return struct.pack(f"<{len(output.elements)}{_FORMATS[output.datatype]}", *output.elements)


def _bytes_element(name: str, raw: bytes) -> bytes:
    if len(raw) < _LENGTH.size or _LENGTH.unpack_from(raw)[0] != len(raw) - _LENGTH.size:
        raise InvalidParameter(
            name, "the content is not the length in four bytes, little-endian, and as many bytes"
        )
    return raw[_LENGTH.size :]


def require_datatype(name: str, datatype: str) -> None:
    """Raises InvalidParameter for one that there is not."""
    if datatype not in DATATYPES:
        raise InvalidParameter(
            name, f"the datatype {datatype[:32]!r} is none of: {', '.join(DATATYPES)}"
        )


def _layout(name: str, datatype: str) -> struct.Struct:
    require_datatype(name, datatype)
    return struct.Struct("<" + _FORMATS[datatype])
