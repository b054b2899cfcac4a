from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from darkroom_server.repository.weights import BadWeights, check_safetensors
from tests.unit.repository.builders import dump, safetensors, with_header


def check(folder: Path, content: bytes) -> None:
    path = folder / "w.safetensors"
    path.write_bytes(content)
    check_safetensors(path, len(content))


def tensor(begin: int, end: int, *, dtype: str = "F32", shape: Any = None) -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(safetensors(a=3, b=5), id="two-tensors"),
        pytest.param(safetensors(), id="no-tensor"),
        pytest.param(safetensors(a=0, b=1, c=0), id="empty-tensors"),
        pytest.param(
            with_header(b'{"__metadata__": {"format": "pt"}}  '), id="metadata-and-padding"
        ),
        pytest.param(
            with_header(dump({"b": tensor(4, 8), "a": tensor(0, 4)}), bytes(8)), id="any-order"
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 2, dtype="BF16", shape=[])}), bytes(2)), id="scalar"
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 3, dtype="F4", shape=[2, 3])}), bytes(3)),
            id="half-byte-dtype",
        ),
    ],
)
def test_a_whole_file_passes(tmp_path: Path, content: bytes) -> None:
    check(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "truncated: 0 bytes", id="empty"),
        pytest.param(safetensors(a=3)[:5], "truncated: 5 bytes", id="inside-the-length"),
        pytest.param(safetensors(a=3)[:20], "truncated inside its header", id="inside-the-header"),
        pytest.param(safetensors(a=3)[:-1], "need 12 bytes, it has 11", id="inside-the-data"),
        pytest.param(safetensors(a=3) + b"x", "1 bytes that no tensor owns", id="too-long"),
        pytest.param(b"\x80\x02pickled weights", "length makes no sense", id="pickle"),
        pytest.param(with_header(b"[]"), "not a JSON object", id="header-is-a-list"),
        pytest.param(with_header(b"{"), "not a JSON object", id="header-is-cut"),
        pytest.param(with_header(dump({"a": 1})), "entry 'a' is malformed", id="entry"),
        pytest.param(
            with_header(dump({"a": tensor(0, 4, shape=[True])}), bytes(4)),
            "entry 'a' is malformed",
            id="shape-of-booleans",
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 4, shape=[-1])}), bytes(4)),
            "entry 'a' is malformed",
            id="negative-shape",
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 4, shape=[1] * 100)}), bytes(4)),
            "entry 'a' is malformed",
            id="hundred-dimensions",
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 4, dtype="F31")}), bytes(4)),
            "unknown dtype 'F31'",
            id="dtype",
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 8, shape=[1])}), bytes(8)),
            "shape and offsets disagree",
            id="shape",
        ),
        pytest.param(
            with_header(dump({"a": tensor(8, 4, shape=[1])}), bytes(8)),
            "shape and offsets disagree",
            id="backwards",
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 4), "b": tensor(8, 12)}), bytes(12)),
            "gap or an overlap before tensor 'b'",
            id="gap",
        ),
        pytest.param(
            with_header(dump({"a": tensor(0, 8), "b": tensor(4, 12)}), bytes(12)),
            "gap or an overlap before tensor 'b'",
            id="overlap",
        ),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(BadWeights, match=message):
        check(tmp_path, content)
