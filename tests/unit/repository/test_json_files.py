from __future__ import annotations

import json
import math
import tracemalloc

import pytest

from darkroom_server.domain.problems import Position
from darkroom_server.repository.json_files import BadJson, parse_object


def test_an_object_is_read() -> None:
    assert parse_object(b'{"a": [1, null]}') == {"a": [1, None]}


def test_schedulers_save_numbers_that_are_infinite() -> None:
    text = b'{"lambda_min_clipped": -Infinity, "s_tmax": Infinity}'
    read = parse_object(text)
    assert read == {"lambda_min_clipped": -math.inf, "s_tmax": math.inf}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "Expecting value", id="empty"),
        pytest.param(b"[1]", "no JSON object", id="list"),
        pytest.param(b'{"a":"' + b"," * 1_000_001 + b'"}', "more than 1000000", id="marks"),
        pytest.param(b"\xff{}", "UTF-8", id="not-utf-8"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="deep"),
        pytest.param(b'{"a": ' + b"9" * 10_000 + b"}", "digits", id="endless-number"),
    ],
)
def test_anything_else_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadJson, match=message):
        parse_object(content)


def test_a_syntax_error_has_a_place() -> None:
    with pytest.raises(BadJson) as caught:
        parse_object(b'{"a": 1,\n "b" 2}')
    assert caught.value.at == Position(2, 6)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_python_writes_for_a_number_without_end_is_taken_unless_strict(word: str) -> None:
    content = f'{{"a": {word}}}'.encode()
    assert str(parse_object(content)["a"]) == str(float(word))
    with pytest.raises(BadJson, match=f"'{word}'"):
        parse_object(content, is_strict=True)


@pytest.mark.parametrize("piece", [b"[],", b"{},", b"0,", b'{"":0},', b'"":[],'])
def test_many_small_values_are_refused_before_they_are_read(piece: bytes) -> None:
    content = b'{"a":[' + piece * (8_000_000 // len(piece)) + b"0]}"
    tracemalloc.start()
    try:
        with pytest.raises(BadJson, match="more than 1000000"):
            parse_object(content)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_an_index_of_a_hundred_thousand_tensors_is_read() -> None:
    names = {
        f"blocks.{k}.attention.to_q.weight": "model-00001-of-00042.safetensors"
        for k in range(100_000)
    }
    found = parse_object(json.dumps({"metadata": {}, "weight_map": names}).encode())
    assert found["weight_map"] == names
