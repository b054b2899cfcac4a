"""gRPC-Web as text: base64 that comes and goes in pieces."""

from __future__ import annotations

import base64
import random
import struct
from typing import Any

import pytest
from connectrpc.errors import ConnectError
from fastapi import FastAPI

from darkroom.v1.model_service_pb2 import ListModelsRequest, ListModelsResponse
from darkroom_server.gateway.grpc_web_text import MAX_PIECE_COUNT, TextDecoder
from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import client_of
from tests.unit.gateway.test_server import app_of

CONTENT = bytes(random.Random(7).randbytes(1000))
LIST = "/darkroom.v1.ModelService/ListModels"


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return app_of(FakeEngine())


def in_pieces(content: bytes, length: int) -> bytes:
    """Base64 of each so many bytes, padded by itself."""
    cut = (content[at : at + length] for at in range(0, len(content), length))
    return b"".join(map(base64.b64encode, cut))


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("network", [1, 3, 4, 7, 10_000])
def test_any_pieces_are_read_however_they_arrive(piece: int, network: int) -> None:
    text, decoder = in_pieces(CONTENT, piece), TextDecoder()
    bits = [text[at : at + network] for at in range(0, len(text), network)]
    found = [decoder.decode(bit, is_last=False) for bit in bits]
    assert b"".join([*found, decoder.decode(b"", is_last=True)]) == CONTENT


def test_the_last_may_be_unpadded_and_lines_may_break() -> None:
    text = base64.encodebytes(CONTENT).rstrip(b"=\n")
    assert TextDecoder().decode(text, is_last=True) == CONTENT


@pytest.mark.parametrize("text", [b"=", b"====", b"AAA=A", b"AA=A", b"!!!!", b"A", b"A==="])
def test_what_is_no_base64_is_refused(text: bytes) -> None:
    with pytest.raises(ConnectError, match="base64"):
        TextDecoder().decode(text, is_last=True)


def test_a_body_in_crumbs_is_refused() -> None:
    decoder = TextDecoder()
    decoder.decode(base64.b64encode(b"1") * MAX_PIECE_COUNT, is_last=False)
    with pytest.raises(ConnectError, match="pieces"):
        decoder.decode(base64.b64encode(b"1"), is_last=False)


def frames(text: bytes) -> list[tuple[int, bytes]]:
    """Flags and content of each message in an answer."""
    content, found = TextDecoder().decode(text, is_last=True), []
    while content:
        flags, length = struct.unpack(">BI", content[:5])
        found.append((flags, content[5 : 5 + length]))
        content = content[5 + length :]
    return found


@pytest.mark.parametrize("suffix", ["", "+proto"])
async def test_a_call_is_answered_as_text(app: FastAPI, suffix: str) -> None:
    body = ListModelsRequest().SerializeToString()
    headers = {"content-type": f"application/grpc-web-text{suffix}", "x-grpc-web": "1"}
    content = in_pieces(struct.pack(">BI", 0, len(body)) + body, 4)
    async with client_of(app) as client:
        answer = await client.post(LIST, content=content, headers=headers)
    assert answer.headers["content-type"] == "application/grpc-web-text+proto"
    (flags, message), (end_flags, end) = frames(answer.content)
    assert (flags, end_flags) == (0, 0x80)
    found = ListModelsResponse.FromString(message)
    assert [one.name for one in found.models] == ["models/sdxl"]
    assert b"grpc-status: 0" in end or b"grpc-status:0" in end


@pytest.mark.parametrize(
    ("content", "status"), [(b"*", "3"), (base64.b64encode(b"\0\0\0\0\1\xff"), "3")]
)
async def test_a_body_that_is_none_is_a_status(app: FastAPI, content: bytes, status: str) -> None:
    headers = {"content-type": "application/grpc-web-text"}
    async with client_of(app) as client:
        answer = await client.post(LIST, content=content, headers=headers)
    shown: Any = answer.headers.get("grpc-status") or frames(answer.content)[-1][1].decode()
    assert status in shown
    assert answer.status_code == 200
