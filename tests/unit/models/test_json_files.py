from __future__ import annotations

import math

import pytest

from darkroom_server.models.json_files import BadJson, parse_object
from darkroom_server.models.problems import Position


def test_an_object_is_read() -> None:
    assert parse_object(b'{"a": [1, null]}') == {"a": [1, None]}


def test_schedulers_save_numbers_that_are_infinite() -> None:
    text = b'{"lambda_min_clipped": -Infinity, "s_tmax": Infinity}'
    with pytest.raises(BadJson, match="'-Infinity'"):
        parse_object(text)
    read = parse_object(text, allows_infinity=True)
    assert read == {"lambda_min_clipped": -math.inf, "s_tmax": math.inf}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "Expecting value", id="empty"),
        pytest.param(b"[1]", "no JSON object", id="list"),
        pytest.param(b'{"a": NaN}', "'NaN'", id="nan"),
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
