"""Bodies that are no JSON that can be answered, and callers that leave in the middle of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from darkroom_server.domain.errors import Cancelled, InvalidParameter, RequestTooLarge
from darkroom_server.gateway import bodies
from darkroom_server.gateway.bodies import parse_object, read_body
from darkroom_server.gateway.forms import read_form


@pytest.mark.parametrize(
    ("number", "text"),
    [("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity"), ("1e999", "too large")],
)
def test_a_number_that_json_does_not_have_is_named(number: str, text: str) -> None:
    with pytest.raises(InvalidParameter, match=text) as caught:
        parse_object(f'{{"seed": [{number}]}}'.encode())
    assert caught.value.field == "request"


def test_other_numbers_are_taken() -> None:
    assert parse_object(b'{"a": 1.5, "b": -2e3, "c": 7}') == {"a": 1.5, "b": -2000.0, "c": 7}


async def test_a_caller_that_leaves_in_the_middle_has_gone() -> None:
    async def half() -> AsyncGenerator[bytes, None]:
        yield b"{"
        raise ClientDisconnect

    with pytest.raises(Cancelled, match="gone"):
        await read_body(half())


async def test_a_caller_that_leaves_in_the_middle_of_a_form_has_gone() -> None:
    messages = [
        {"type": "http.request", "body": b"--b\r\n", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=b")]
    with pytest.raises(Cancelled, match="gone"):
        await read_form(Request({"type": "http", "headers": headers}, receive))


async def test_a_body_is_bounded_by_what_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"123"
        yield b"45"

    assert await read_body(pieces()) == b"12345"
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 4)
    with pytest.raises(RequestTooLarge):
        await read_body(pieces())
