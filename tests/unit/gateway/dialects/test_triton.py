from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from darkroom_server.domain.errors import QueueFull
from tests.integration.rpc.fake_engine import COMPLETED, FakeEngine, image
from tests.unit.gateway.http_calls import calling, posted

PROMPT = {"name": "PROMPT", "shape": [1], "datatype": "BYTES", "data": ["x"]}
SENT = json.dumps({"inputs": [PROMPT]}).encode()


async def infer(
    body: Any, headers: dict[str, str] | None = None, engine: Any = None
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    engine = FakeEngine() if engine is None else engine
    return await posted(engine, "/v2/models/sdxl/infer", content=content, headers=headers)


async def test_contents_are_json_unless_they_are_wanted_raw() -> None:
    plain = (await infer({"id": "a", "inputs": [PROMPT]})).json()
    told = {one["name"]: one for one in plain["outputs"]}
    assert (plain["id"], told["IMAGE"]["data"], told["SEED"]["data"]) == (
        "a",
        ["cGljdHVyZQ=="],
        [7],
    )
    assert told["IMAGE"]["parameters"] == {"content_encoding": "base64"}
    answer = await infer({"inputs": [PROMPT], "parameters": {"binary_data_output": True}})
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert [one["parameters"]["binary_data_size"] for one in head["outputs"]] == [11, 8]
    assert answer.content[length:] == b"\x07\0\0\0picture" + b"\x07" + bytes(7)


async def test_raw_contents_follow_the_json() -> None:
    inputs = [
        {**PROMPT, "data": None, "parameters": {"binary_data_size": 5}},
        {
            "name": "STEPS",
            "shape": [1],
            "datatype": "INT32",
            "parameters": {"binary_data_size": 4},
        },
    ]
    head = json.dumps({"inputs": inputs}).encode()
    engine = FakeEngine()
    body = head + b"\x01\0\0\0x" + b"\x04\0\0\0"
    answer = await infer(body, {"inference-header-content-length": str(len(head))}, engine)
    assert answer.status_code == 200, answer.text
    assert engine.sessions[0].spec is not None
    assert (engine.sessions[0].spec.prompt, engine.sessions[0].spec.step_count) == ("x", 4)


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        pytest.param(b"{", {}, "request: the body is no JSON", id="no-json"),
        pytest.param(b"[]", {}, "request: the body is no JSON object", id="no-object"),
        pytest.param({}, {}, "PROMPT: the prompt is empty", id="no-inputs"),
        pytest.param({"inputs": 7}, {}, "inputs: is no list", id="no-list"),
        pytest.param({"inputs": [7]}, {}, "inputs: is no object", id="no-tensor"),
        pytest.param({"inputs": [{}]}, {}, "name: an input or output has no name", id="no-name"),
        pytest.param({"inputs": [PROMPT, PROMPT]}, {}, "PROMPT: came more than once", id="twice"),
        pytest.param({"id": 7, "inputs": [PROMPT]}, {}, "id: is no text", id="id"),
        pytest.param(
            {"inputs": [{**PROMPT, "shape": [2]}]}, {}, "PROMPT: the shape [2] has 2", id="shape"
        ),
        pytest.param(
            {"inputs": [{**PROMPT, "shape": "x"}]}, {}, "PROMPT: is no list", id="no-shape"
        ),
        pytest.param(
            {"inputs": [{**PROMPT, "data": ["a", "b"]}]}, {}, "PROMPT: data has 2", id="data"
        ),
        pytest.param(
            {"inputs": [PROMPT], "outputs": [{"name": "X"}]}, {}, "X: no such output", id="output"
        ),
        pytest.param(
            SENT,
            {"inference-header-content-length": "999"},
            "inference-header-content-length: 999 bytes of JSON",
            id="a-length-beyond-the-body",
        ),
        pytest.param(
            SENT,
            {"inference-header-content-length": "x"},
            "inference-header-content-length: is no number",
            id="a-length-that-is-none",
        ),
        pytest.param(
            SENT + b"more",
            {"inference-header-content-length": str(len(SENT))},
            "inputs: 4 bytes of the body belong to no input",
            id="bytes-of-no-tensor",
        ),
        pytest.param(
            {"inputs": [{**PROMPT, "parameters": {"binary_data_size": 9}}]},
            {},
            "PROMPT: binary_data_size is 9, and 0 bytes are left",
            id="a-tensor-beyond-the-body",
        ),
        pytest.param(
            {"inputs": [{**PROMPT, "parameters": {"binary_data_size": -1}}]},
            {},
            "PROMPT: binary_data_size is -1, and 0 bytes are left",
            id="a-negative-size",
        ),
        pytest.param(
            {"inputs": [PROMPT, {**PROMPT, "name": "IMAGE", "data": ["?"]}]},
            {},
            "IMAGE: is no base64",
            id="no-picture",
        ),
        pytest.param(
            {"inputs": [{**PROMPT, "shape": [9], "datatype": "UINT8", "data": [97, 98]}]},
            {},
            "PROMPT: data has 2 elements, and the shape [9]",
            id="bytes-of-another-shape",
        ),
        pytest.param(
            {"inputs": [{**PROMPT, "datatype": "STRING"}]},
            {},
            "PROMPT: the datatype 'STRING' is none of: BOOL",
            id="no-such-datatype",
        ),
        pytest.param(
            {"inputs": [{"name": "PROMPT", "shape": [1], "data": ["x"]}]},
            {},
            "PROMPT: the datatype '' is none of",
            id="no-datatype",
        ),
        pytest.param(
            {"inputs": [PROMPT], "outputs": [{"name": "PREVIEW"}]},
            {},
            "PREVIEW: it comes in streams alone",
            id="previews-without-a-stream",
        ),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(
    body: Any, headers: dict[str, str], told: str
) -> None:
    answer = await infer(body, headers)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].startswith(told)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"shared_memory_region": "r", "shared_memory_byte_size": 8}, "Shared memory is not offer"),
        ({"shared_memory_offset": 0}, "Shared memory is not offered"),
        ({"classification": 3}, "Classification is not offered"),
    ],
)
async def test_what_a_tensor_is_not_offered_is_said(asked: dict[str, Any], told: str) -> None:
    """Left alone it would be an answer that the caller looks for in another place."""
    tensor = {"name": "PROMPT", "shape": [1], "datatype": "BYTES", "parameters": asked}
    for body in (
        {"inputs": [tensor]},
        {"inputs": [PROMPT], "outputs": [{"name": "IMAGE", "parameters": asked}]},
    ):
        answer = await infer(body)
        assert answer.status_code == 501
        assert answer.json()["error"].partition(": ")[2].startswith(told)


async def test_later_errors_name_the_field_as_the_caller_did() -> None:
    width = {"name": "WIDTH", "shape": [1], "datatype": "INT32", "data": [17]}
    answer = await infer({"inputs": [PROMPT, width]})
    assert (answer.status_code, answer.json()["error"][:6]) == (400, "WIDTH:")


async def test_a_stream_that_fails_half_way_says_so_at_its_end() -> None:
    engine = FakeEngine()
    engine.script = [image(0), QueueFull("no room", retry_after_s=1.0)]
    path = "/v2/models/sdxl/generate_stream"
    answer = await posted(engine, path, json={"prompt": "x", "n": 2})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert [sorted(one) for one in events][1] == ["error"]
    assert events[0]["parameters"]["triton_final_response"] is False
    engine.script = [image(0), COMPLETED]
    answer = await posted(engine, path, json={"prompt": "x"})
    [only] = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert only["parameters"]["triton_final_response"] is True
    assert only["IMAGE"] == "cGljdHVyZQ=="


async def test_what_fails_before_a_stream_begins_has_a_status() -> None:
    engine = FakeEngine()
    engine.submit_errors = [QueueFull("no room", retry_after_s=1.0)]
    answer = await posted(engine, "/v2/models/sdxl/generate_stream", json={"prompt": "x"})
    assert (answer.status_code, answer.json()) == (429, {"error": "no room"})
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v2/models/sdxl/other", "/v2/nothing", "/v2"])
async def test_routes_that_there_are_not_are_refused_in_the_same_shape(path: str) -> None:
    answer = await posted(FakeEngine(), path, json={})
    assert answer.status_code in (404, 405)
    assert answer.json().keys() == {"error"}


@pytest.mark.parametrize("path", ["sdxl/infer", "sdxl/versions/1/generate", "no/generate_stream"])
async def test_what_is_posted_cannot_be_got(path: str) -> None:
    async with calling(FakeEngine()) as client:
        answer = await client.get(f"/v2/models/{path}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json() == {"error": f"GET is not served at /v2/models/{path}"}
