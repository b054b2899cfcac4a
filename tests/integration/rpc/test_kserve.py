"""The inference protocol over real gRPC: keys and rates, streams that stay open, what ends them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.access.key_format import new_key
from darkroom_server.access.keys_file import add_key
from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.jobs import Priority
from darkroom_server.domain.keys import Permission
from darkroom_server.rpc.server import GrpcOptions, build_server
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.rpc.fake_engine import COMPLETED, FOREVER, FakeEngine, image
from tests.unit.access.example_keys import api_key

WAIT_S = 120


def asking(prompt: bytes = b"x", **more: Any) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="PROMPT", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(prompt)
    return pb.ModelInferRequest(model_name="sdxl", inputs=[tensor], **more)


class Inference:
    """Calls as any client makes them."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def one(self, method: str, request: Any, answer: Any, metadata: Any = ()) -> Any:
        return self._channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )(request, metadata=metadata)

    def infer(self, request: pb.ModelInferRequest, metadata: Any = ()) -> Any:
        return self.one("ModelInfer", request, pb.ModelInferResponse, metadata)

    def stream(self, metadata: Any = ()) -> Any:
        return self._channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )(metadata=metadata)


@pytest.fixture
def inference(channel: aio.Channel) -> Inference:
    return Inference(channel)


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    add_key(tmp_path / "keys.toml", api_key(new_key()))
    gate = Gate(GateOptions(keys_file=tmp_path / "keys.toml"))
    yield gate
    await gate.stop()


@pytest.fixture
def shown(gate: Gate, tmp_path: Path) -> Any:
    def shown(**limits: Any) -> tuple[tuple[str, str], ...]:
        made = new_key()
        add_key(tmp_path / "keys.toml", api_key(made, **limits))
        gate.refresh_keys()
        return (("authorization", f"Bearer {made.text}"),)

    return shown


async def code_of(call: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    code: str = caught.value.code().name
    return code


async def test_probes_need_no_key_and_all_else_does(
    inference: Inference, engine: FakeEngine, shown: Any
) -> None:
    assert (await inference.one("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse)).live
    ready = pb.ModelReadyRequest(name="sdxl")
    assert (await inference.one("ModelReady", ready, pb.ModelReadyResponse)).ready
    assert await code_of(inference.infer(asking())) == "UNAUTHENTICATED"
    call = inference.stream()
    assert await code_of(call.read()) == "UNAUTHENTICATED"
    request = pb.RepositoryIndexRequest()
    index = inference.one("RepositoryIndex", request, pb.RepositoryIndexResponse)
    assert await code_of(index) == "UNAUTHENTICATED"
    assert engine.sessions == []
    answer = await inference.infer(asking(), shown())
    assert answer.raw_output_contents[0] == b"\x07\0\0\0picture"


async def test_a_key_may_do_what_it_is_for(
    inference: Inference, engine: FakeEngine, shown: Any
) -> None:
    draws = shown(permissions=frozenset({Permission.GENERATE}))
    load = pb.RepositoryModelLoadRequest(model_name="sdxl")
    answer = pb.RepositoryModelLoadResponse
    assert await code_of(inference.one("RepositoryModelLoad", load, answer, draws)) == (
        "PERMISSION_DENIED"
    )
    log = pb.LogSettingsRequest()
    assert (await inference.one("LogSettings", log, pb.LogSettingsResponse, draws)).settings
    log.settings["log_info"].bool_param = True
    assert await code_of(inference.one("LogSettings", log, pb.LogSettingsResponse, draws)) == (
        "PERMISSION_DENIED"
    )
    first = asking(parameters={"priority": pb.InferParameter(int64_param=1)})
    assert await code_of(inference.infer(first, draws)) == "PERMISSION_DENIED"
    everything = shown(permissions=frozenset(Permission))
    await inference.infer(first, everything)
    spec = engine.sessions[-1].spec
    assert spec is not None
    assert spec.priority is Priority.HIGH


async def test_each_request_of_a_stream_counts_towards_the_rate(
    inference: Inference, shown: Any
) -> None:
    call = inference.stream(shown(rate_limit="2/hour"))
    errors = []
    for at in range(3):
        await call.write(asking(id=str(at)))
        answer = await call.read()
        assert answer.infer_response.id == str(at)
        errors.append(answer.error_message)
    assert errors[:2] == ["", ""]
    assert "2/hour" in errors[2] or "2 requests" in errors[2], errors[2]
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_stream_may_be_silent_for_longer_than_a_request_may_take(
    engine: FakeEngine, metrics: Metrics, gate: Gate, shown: Any
) -> None:
    options = GrpcOptions(
        host="127.0.0.1",
        port=0,
        max_receive_message_bytes=1 << 20,
        max_concurrent_streams=100,
        receive_timeout_s=0.1,
    )
    server = build_server(engine, options, metrics, gate)
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        inference, metadata = Inference(channel), shown()
        call = inference.stream(metadata)
        await call.write(asking(id="a"))
        assert (await call.read()).infer_response.id == "a"
        # One that never begins is ended: so much time has passed.
        assert await code_of(inference.stream(metadata).read()) == "DEADLINE_EXCEEDED"
        await call.write(asking(id="b"))
        assert (await call.read()).infer_response.id == "b"
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
    await server.stop(grace_s=0)


async def test_requests_of_a_stream_run_at_the_same_time(
    inference: Inference, engine: FakeEngine, shown: Any
) -> None:
    engine.script = [FOREVER]
    call = inference.stream(shown())
    await call.write(asking(id="waits"))
    await asyncio.wait_for(engine.opened.wait(), WAIT_S)
    engine.script = [image(), COMPLETED]
    await call.write(asking(id="goes on"))
    answer = await asyncio.wait_for(call.read(), WAIT_S)
    assert answer.infer_response.id == "goes on"
    call.cancel()
    await asyncio.wait_for(engine.sessions[0].left.wait(), WAIT_S)


async def test_a_request_has_ended_when_its_last_answer_comes(
    inference: Inference, engine: FakeEngine, shown: Any
) -> None:
    """So statistics have what a client counts, which asks for them right then."""
    engine.script = [image(), FOREVER]
    call = inference.stream(shown())
    await call.write(asking(id="one"))
    await asyncio.wait_for(engine.opened.wait(), WAIT_S)
    reading = asyncio.ensure_future(call.read())
    await asyncio.wait_for(engine.sessions[0].waiting.wait(), WAIT_S)
    assert not reading.done()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading


async def test_a_failure_is_told_in_the_stream_or_ends_it(
    inference: Inference, engine: FakeEngine, shown: Any
) -> None:
    engine.script = [GenerationFailed("not finite")]
    call = inference.stream(shown())
    await call.write(asking(id="a"))
    answer = await call.read()
    assert (answer.error_message, answer.infer_response.id) == ("not finite", "a")
    assert answer.infer_response.parameters["triton_final_response"].bool_param
    call.cancel()
    ending = inference.stream((*shown(), ("triton_grpc_error", "true")))
    await ending.write(asking(id="b"))
    assert await code_of(ending.read()) == "INTERNAL"


async def test_a_bug_ends_the_stream_and_says_nothing_of_itself(
    inference: Inference, engine: FakeEngine, shown: Any
) -> None:
    engine.script = [RuntimeError("secret")]
    call = inference.stream(shown())
    await call.write(asking())
    with pytest.raises(grpc.RpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in caught.value.details()
