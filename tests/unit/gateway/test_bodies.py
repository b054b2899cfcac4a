"""Bodies that are no JSON that can be answered, and callers that leave in the middle of one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom_server.domain.errors import Cancelled, InvalidParameter, RequestTooLarge
from darkroom_server.gateway import bodies
from darkroom_server.gateway.bodies import off_loop, parse_object, read_body
from darkroom_server.gateway.connect_codecs import JsonCodec
from darkroom_server.gateway.dialects import events
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


MANY = b"[" + b"[]," * bodies.MAX_JSON_VALUE_COUNT + b"[]]"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(MANY, id="lists"),
        pytest.param(b'{"a": {"b": ' + MANY + b"}}", id="lists-below"),
        pytest.param(b'{"":1,' * (bodies.MAX_JSON_VALUE_COUNT // 2), id="objects"),
        pytest.param(b"[1" + b",1" * bodies.MAX_JSON_VALUE_COUNT + b"]", id="numbers"),
        pytest.param(b"[" * (bodies.MAX_JSON_VALUE_COUNT + 1), id="depth"),
        pytest.param(MANY.decode().encode("utf-16"), id="utf-16"),
        pytest.param(b'"' + b"x" * (2 << 20) + b'",' + MANY, id="after-a-long-text"),
    ],
)
def test_a_body_of_too_many_values_is_refused_before_one_is_made(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr("json.loads", never)
    readers = (
        parse_object,
        lambda found: events._parse(found, GenerateRequest()),
        lambda found: JsonCodec().decode(found, GenerateRequest).read(),
    )
    for reader in readers:
        with pytest.raises(InvalidParameter, match="more than 100000 values") as caught:
            reader(bytearray(body))
        assert caught.value.field == "request"


def test_a_long_text_is_one_value() -> None:
    text = "a" * (4 << 20)
    assert parse_object(f'{{"image": "{text}", "prompt": "a, [b]: {{c}}"}}'.encode()) == {
        "image": text,
        "prompt": "a, [b]: {c}",
    }


def test_what_is_nested_too_deeply_is_said_to_be() -> None:
    with pytest.raises(InvalidParameter, match="nested too deeply"):
        parse_object(b'{"a":' + b"[" * 20_000)


async def test_bodies_wait_for_nothing_but_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else keeps the loop's own threads busy, pictures among it."""
    monkeypatch.setattr(asyncio, "to_thread", None)
    names = await asyncio.gather(*(off_loop(lambda: threading.current_thread().name) for _ in "ab"))
    assert {name.partition("_")[0] for name in names} == {"parse"}
