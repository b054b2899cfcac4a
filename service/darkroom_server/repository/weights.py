"""Checks a safetensors file by its header, without reading the tensors.

Layout (https://github.com/huggingface/safetensors, "Format"): 8 bytes little-endian header length,
the header as a JSON object, then the tensors without gaps.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from darkroom_server.domain.problems import quoted
from darkroom_server.repository.json_files import BadJson, parse_object

#: The longest header that the safetensors library itself reads.
MAX_HEADER_BYTES = 100_000_000

_LENGTH_BYTES = 8
_MAX_DIMENSION_COUNT = 64
_DTYPE_BITS = {
    "F4": 4,
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
#: Those that a pipeline's dtype replaces.
_CAST_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})


class BadWeights(ValueError):
    """The file is not a whole safetensors file; the message says why."""


def check_safetensors(path: Path, size_bytes: int) -> frozenset[str]:
    """The names of the tensors; raises BadWeights when the header is broken or they do not fill
    the file.

    Blocking; raises OSError when the file cannot be read.
    """
    tensors, header_bytes = _read_header(path, size_bytes)
    _check_spans(tensors, size_bytes - _LENGTH_BYTES - header_bytes)
    return frozenset(tensors.keys() - {"__metadata__"})


def loaded_bytes(path: Path, float_bits: int) -> int:
    """Memory that a file's tensors take once those of floating point have `float_bits` bits.

    Blocking. A file that is none, or cannot be read, counts with its size.
    """
    size_bytes = 0
    try:
        size_bytes = path.stat().st_size
        tensors, _ = _read_header(path, size_bytes)
        return (
            sum(
                _tensor_bits(tensor, float_bits)
                for name, tensor in tensors.items()
                if name != "__metadata__"
            )
            // 8
        )
    except (OSError, BadWeights):
        return size_bytes


def _tensor_bits(tensor: object, float_bits: int) -> int:
    if not isinstance(tensor, dict):
        raise BadWeights("has a header whose entries are malformed")
    shape, dtype = _counts(tensor.get("shape")), tensor.get("dtype")
    if shape is None or not isinstance(dtype, str) or dtype not in _DTYPE_BITS:
        raise BadWeights("has a header whose entries are malformed")
    return math.prod(shape) * (float_bits if dtype in _CAST_DTYPES else _DTYPE_BITS[dtype])


def _read_header(path: Path, size_bytes: int) -> tuple[dict[str, object], int]:
    """The header's entries and its length."""
    with path.open("rb") as file:
        prefix = file.read(_LENGTH_BYTES)
        if len(prefix) < _LENGTH_BYTES:
            raise BadWeights(f"is truncated: {len(prefix)} bytes, not even a header's length")
        (header_bytes,) = struct.unpack("<Q", prefix)
        if header_bytes > MAX_HEADER_BYTES:
            raise BadWeights("is not a safetensors file: its header's length makes no sense")
        if _LENGTH_BYTES + header_bytes > size_bytes:
            raise BadWeights(
                f"is truncated inside its header: {size_bytes} bytes, "
                f"the header alone needs {_LENGTH_BYTES + header_bytes}"
            )
        header = file.read(header_bytes)
    if not header.startswith(b"{"):
        # The library itself takes blanks behind the object only.
        raise BadWeights("has a header that is not a JSON object")
    try:
        return parse_object(header, is_strict=True), header_bytes
    except BadJson as error:
        raise BadWeights(f"has a header that is not a JSON object: {error}") from error


def _check_spans(tensors: dict[str, object], data_bytes: int) -> None:
    spans = sorted(
        _span(name, tensor) for name, tensor in tensors.items() if name != "__metadata__"
    )
    position = 0
    for begin, end, name in spans:
        if begin != position:
            raise BadWeights(f"has a gap or an overlap before tensor {quoted(name)}")
        position = end
    if position > data_bytes:
        raise BadWeights(
            f"is truncated: its tensors need {position} bytes, it has {data_bytes}: copy it again"
        )
    if position < data_bytes:
        raise BadWeights(f"has {data_bytes - position} bytes that no tensor owns")


def _span(name: str, tensor: object) -> tuple[int, int, str]:
    fault = BadWeights(f"has a header whose entry {quoted(name)} is malformed")
    if not isinstance(tensor, dict):
        raise fault
    dtype = tensor.get("dtype")
    shape = _counts(tensor.get("shape"))
    offsets = _counts(tensor.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None:
        raise fault
    if dtype not in _DTYPE_BITS:
        raise BadWeights(f"has tensor {quoted(name)} of an unknown dtype {quoted(dtype)}")
    if len(offsets) != 2 or (offsets[1] - offsets[0]) * 8 != math.prod(shape) * _DTYPE_BITS[dtype]:
        raise BadWeights(f"has tensor {quoted(name)} whose shape and offsets disagree")
    return offsets[0], offsets[1], name


def _counts(value: object) -> list[int] | None:
    if not isinstance(value, list) or len(value) > _MAX_DIMENSION_COUNT:
        return None
    if not all(type(item) is int and 0 <= item < 2**63 for item in value):
        return None
    return value


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor in a file: its type as the format calls it, its shape, and its bytes' place."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def tensor_entries(path: Path, size_bytes: int) -> dict[str, TensorEntry]:
    """The tensors of a whole file, by name, `begin` and `end` counted from the file's start.

    Blocking; raises BadWeights, OSError.
    """
    tensors, header_bytes = _read_header(path, size_bytes)
    start = _LENGTH_BYTES + header_bytes
    _check_spans(tensors, size_bytes - start)
    entries: dict[str, TensorEntry] = {}
    for name, tensor in tensors.items():
        if name != "__metadata__" and isinstance(tensor, dict):
            begin, end, _ = _span(name, tensor)
            shape = tuple(_counts(tensor["shape"]) or ())
            entries[name] = TensorEntry(tensor["dtype"], shape, start + begin, start + end)
    return entries
