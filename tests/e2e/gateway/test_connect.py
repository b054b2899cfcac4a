"""The RPCs over HTTP: Connect and gRPC-Web by the stock client, and what curl would send."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from google.rpc import error_details_pb2
from prometheus_client.parser import text_string_to_metric_families

from darkroom.v1.image_pb2 import ImageSource
from darkroom.v1.image_service_connect import ImageServiceClient
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest, GenerateResponse
from darkroom.v1.model_service_connect import ModelServiceClient
from darkroom.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from tests.e2e.gateway.conftest import Service, base64_of, grey

GENERATE = "/darkroom.v1.ImageService/Generate"
LIST = "/darkroom.v1.ModelService/ListModels"
PROTOCOLS = [
    pytest.param(ProtocolType.CONNECT, id="connect"),
    pytest.param(ProtocolType.GRPC_WEB, id="grpc-web"),
]
SMALL = {
    "model": "sdxl",
    "prompt": "x",
    "seed": 7,
    "step_count": 3,
    "width_px": 64,
    "height_px": 64,
}


@pytest.fixture(params=PROTOCOLS)
async def images(service: Service, request: Any) -> AsyncIterator[ImageServiceClient]:
    async with ImageServiceClient(service.url, protocol=request.param) as client:
        yield client


@pytest.fixture(params=PROTOCOLS)
async def models(service: Service, request: Any) -> AsyncIterator[ModelServiceClient]:
    async with ModelServiceClient(service.url, protocol=request.param) as client:
        yield client


async def picture(responses: Any) -> bytes:
    events = [one.event async for one in responses]
    assert [events[0].WhichOneof("event"), events[-1].WhichOneof("event")] == [
        "accepted",
        "completed",
    ]
    return b"".join(event.chunk.content for event in events if event.HasField("chunk"))


async def test_the_image_is_the_one_that_grpc_gives(
    service: Service, images: ImageServiceClient
) -> None:
    content = await picture(images.generate(GenerateRequest(**SMALL)))
    [image] = service.grpc.generate("x", model="sdxl", seed=7, steps=3, width=64, height=64).images
    assert content == image.content


async def test_a_fill_takes_its_files(images: ImageServiceClient) -> None:
    request = FillRequest(
        model="fill",
        prompt="x",
        image=ImageSource(content=grey(90)),
        mask=ImageSource(content=grey(255)),
    )
    assert (await picture(images.fill(request))).startswith(b"\x89PNG")


async def test_models_are_listed_and_found(models: ModelServiceClient) -> None:
    listed = await models.list_models(ListModelsRequest())
    assert {"models/sdxl", "models/fill"} <= {one.name for one in listed.models}
    found = await models.get_model(GetModelRequest(name="sdxl"))
    assert found.model.name == "models/sdxl"


async def test_an_error_has_its_code_and_its_details(images: ImageServiceClient) -> None:
    with pytest.raises(ConnectError) as caught:
        await picture(images.generate(GenerateRequest(**SMALL | {"step_count": 0})))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("step_count: ")
    details = {one.type_name: one.message_bytes for one in caught.value.details}
    request = error_details_pb2.BadRequest.FromString(details["google.rpc.BadRequest"])
    assert request.field_violations[0].field == "step_count"
    info = error_details_pb2.ErrorInfo.FromString(details["google.rpc.ErrorInfo"])
    assert (info.reason, info.domain) == ("INVALID_PARAMETER", "darkroom.v1")


async def test_an_unknown_model_is_not_found(models: ModelServiceClient) -> None:
    with pytest.raises(ConnectError) as caught:
        await models.get_model(GetModelRequest(name="nobody"))
    assert caught.value.code is Code.NOT_FOUND
    assert "schnell" in caught.value.message


async def test_a_deadline_is_kept(images: ImageServiceClient) -> None:
    request = GenerateRequest(**SMALL | {"model": "slow", "step_count": 100})
    with pytest.raises(ConnectError) as caught:
        await picture(images.generate(request, timeout_ms=500))
    assert caught.value.code is Code.DEADLINE_EXCEEDED


async def test_a_caller_that_leaves_ends_the_work(
    service: Service, images: ImageServiceClient
) -> None:
    mark = len(service.server.log)
    request = GenerateRequest(**SMALL | {"model": "slow", "step_count": 100})
    responses = images.generate(request)
    async for response in responses:
        if response.event.progress.completed_step_count:
            break
    await responses.aclose()  # type: ignore[attr-defined]
    stopped = await asyncio.to_thread(service.server.until, "job stopped", after=mark)
    assert stopped["completed_step_count"] < 100


def envelopes(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Flags and content of each message of a stream."""
    while content:
        flags, length = struct.unpack(">BI", content[:5])
        yield flags, content[5 : 5 + length]
        content = content[5 + length :]


def enveloped(content: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(content)) + content


def test_json_as_curl_sends_it(service: Service) -> None:
    answer = service.http.post(LIST, json={"pageSize": 1})
    assert answer.status_code == httpx.codes.OK
    assert [one["name"] for one in answer.json()["models"]] == ["models/dev"]
    assert answer.headers["x-request-id"]


def test_a_stream_in_json(service: Service) -> None:
    body = enveloped(json.dumps({"model": "sdxl", "prompt": "x", "stepCount": 3}).encode())
    headers = {"content-type": "application/connect+json", "accept-encoding": "gzip"}
    answer = service.http.post(GENERATE, content=body, headers=headers)
    *told, (flags, end) = envelopes(answer.content)
    assert (flags, json.loads(end)) == (2, {})
    events = [json.loads(content)["event"] for _, content in told]
    assert "accepted" in events[0]
    chunks = [base64.b64decode(one["chunk"]["content"]) for one in events if "chunk" in one]
    assert b"".join(chunks).startswith(b"\x89PNG")


def test_a_stream_as_text(service: Service) -> None:
    message = enveloped(GenerateRequest(**SMALL).SerializeToString())
    # Each piece with a padding of its own, and cut anywhere by the network.
    text = b"".join(base64.b64encode(message[at : at + 7]) for at in range(0, len(message), 7))
    pieces = (text[at : at + 5] for at in range(0, len(text), 5))
    headers = {"content-type": "application/grpc-web-text"}
    answer = service.http.post(GENERATE, content=pieces, headers=headers)
    assert answer.headers["content-type"].startswith("application/grpc-web-text")
    padded = re.findall(rb"[^=]+={0,2}", answer.content)
    *told, (flags, _) = envelopes(b"".join(map(base64.b64decode, padded)))
    assert flags == 0x80
    events = [GenerateResponse.FromString(content).event for _, content in told]
    content = b"".join(event.chunk.content for event in events if event.HasField("chunk"))
    [image] = service.grpc.generate("x", model="sdxl", seed=7, steps=3, width=64, height=64).images
    assert content == image.content


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"{", "request", id="no-json"),
        pytest.param(b'{"pageSizes": 1}', "pageSizes", id="misspelt"),
        pytest.param(b"\xff\xfe", "request", id="no-text"),
        pytest.param(b"[" * 100_000, "request", id="deep"),
    ],
)
def test_a_body_that_is_none_is_a_400_with_details(
    service: Service, body: bytes, text: str
) -> None:
    answer = service.http.post(LIST, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == httpx.codes.BAD_REQUEST
    found = answer.json()
    assert found["code"] == "invalid_argument"
    assert text in found["message"]
    assert "google.rpc.BadRequest" in {one["type"] for one in found["details"]}


def test_packed_requests_are_unpacked_up_to_the_limit(service: Service) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    fine = service.http.post(LIST, content=gzip.compress(b"{}"), headers=headers)
    assert fine.status_code == httpx.codes.OK
    bomb = gzip.compress(b" " * (97 << 20), compresslevel=1)
    answer = service.http.post(LIST, content=bomb, headers=headers)
    assert answer.json()["code"] == "resource_exhausted"
    # Minutes of the event loop's time, were they unpacked one after the other.
    row = gzip.compress(b"") * 1_000_000
    answer = service.http.post(LIST, content=row, headers=headers)
    assert answer.json()["code"] == "invalid_argument"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param(LIST, {"content-type": "application/grpc"}, 415, id="grpc"),
        pytest.param(LIST, {"content-type": "text/plain"}, 415, id="text"),
        pytest.param(f"{LIST}s", {"content-type": "application/json"}, 404, id="no-method"),
    ],
)
def test_what_is_not_spoken_here_is_refused(
    service: Service, path: str, headers: dict[str, str], status: int
) -> None:
    assert service.http.post(path, content=b"{}", headers=headers).status_code == status


def test_odd_headers_do_no_harm(service: Service) -> None:
    headers = [(b"content-type", b"application/json"), (b"x-odd", b"\xff\xfe")]
    answer = service.http.post(LIST, content=b"{}", headers=headers)
    assert answer.status_code == httpx.codes.OK


def test_calls_are_counted_by_method_and_status(service: Service) -> None:
    service.http.post(LIST, json={"pageSize": -1})
    families = text_string_to_metric_families(service.http.get("/metrics").text)
    counted = {
        (sample.labels.get("route") or sample.labels.get("method"), sample.labels.get("code"))
        for family in families
        for sample in family.samples
        if sample.name in ("darkroom_requests_total", "darkroom_http_requests_total")
    }
    assert (LIST, "INVALID_ARGUMENT") in counted
    assert (LIST, None) in counted


def test_base64_in_json_is_read_in_a_fill(service: Service) -> None:
    files = {
        name: {"content": base64_of(grey(shade))} for name, shade in (("image", 90), ("mask", 0))
    }
    body = enveloped(
        json.dumps({"model": "fill", "prompt": "x", "validateOnly": True} | files).encode()
    )
    headers = {"content-type": "application/connect+json"}
    answer = service.http.post("/darkroom.v1.ImageService/Fill", content=body, headers=headers)
    *_, (_, end) = envelopes(answer.content)
    assert json.loads(end) == {}


def test_loading_is_refused_where_models_are_not_controlled_by_callers(service: Service) -> None:
    body = enveloped(b'{"name": "sdxl"}')
    headers = {"content-type": "application/connect+json"}
    answer = service.http.post("/darkroom.v1.ModelService/LoadModel", content=body, headers=headers)
    *told, (_, end) = envelopes(answer.content)
    # Which models are loaded is not for callers to say unless the server was started so.
    assert told == []
    assert json.loads(end)["error"]["code"] == "failed_precondition"
