"""Keys over real gRPC: who is let in, what it costs, what the refusals look like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from darkroom.v1.image_pb2 import PRIORITY_HIGH
from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom.v1.model_service_pb2 import ListModelsRequest, LoadModelRequest, UnloadModelRequest
from darkroom_server.access.gate import Gate, GateOptions
from darkroom_server.access.key_format import NewKey, new_key
from darkroom_server.access.keys_file import add_key
from darkroom_server.access.ledger import read_spent, spent_path
from darkroom_server.domain.errors import GenerationFailed, QueueFull
from darkroom_server.domain.keys import Permission
from darkroom_server.rpc.server import GrpcOptions, build_server
from tests.integration.rpc.fake_engine import COMPLETED, FOREVER, FakeEngine, image
from tests.unit.access.example_keys import api_key

#: 256x256 px in 10 steps.
REQUEST = GenerateRequest(prompt="x", step_count=10)
COST = 256 * 256 * 10


class Keys:
    """The file of keys, and how a caller shows one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.last: NewKey | None = None

    def shown(self, **limits: Any) -> tuple[tuple[str, str], ...]:
        self.last = new_key()
        add_key(self.file, api_key(self.last, **limits))
        return (("authorization", f"Bearer {self.last.text}"),)

    def spent(self) -> int:
        assert self.last is not None
        return read_spent(spent_path(self.file)).get(self.last.id, 0)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys.toml")
    keys.shown()
    return keys


@pytest.fixture
async def gate(keys: Keys) -> AsyncIterator[Gate]:
    gate = Gate(GateOptions(keys_file=keys.file))
    yield gate
    await gate.stop()


@pytest.fixture
def shown(keys: Keys, gate: Gate) -> Any:
    """Metadata with a key that the server knows already."""

    def shown(**limits: Any) -> tuple[tuple[str, str], ...]:
        metadata = keys.shown(**limits)
        gate.refresh_keys()
        return metadata

    return shown


async def end(call: Any) -> None:
    """Reads the call to its end."""
    if not hasattr(call, "__aiter__"):
        await call
        return
    async for _ in call:
        pass


async def refusal(call: Any) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
    """Code and reason of a failed call, its other details, its trailers."""
    with pytest.raises(grpc.RpcError) as caught:
        await end(call)
    trailers = dict(caught.value.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    details = {}
    for packed in status.details:
        name = packed.TypeName().removeprefix("google.rpc.")
        details[name] = getattr(error_details_pb2, name)()
        packed.Unpack(details[name])
    return caught.value.code().name, details.pop("ErrorInfo").reason, details, trailers


async def drain(call: Any) -> list[str]:
    return [response.event.WhichOneof("event") async for response in call]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param((), id="none"),
        pytest.param((("authorization", f"Bearer {new_key().text}"),), id="unknown"),
        pytest.param((("authorization", "Bearer hf_something"),), id="another-service's"),
    ],
)
async def test_without_a_key_nothing_is_done(engine, images, models, metadata):
    for call in (
        images.Generate(REQUEST, metadata=metadata),
        images.Fill(FillRequest(prompt="x"), metadata=metadata),
        models.ListModels(ListModelsRequest(), metadata=metadata),
        models.LoadModel(LoadModelRequest(name="models/sdxl"), metadata=metadata),
    ):
        code, reason, _, _ = await refusal(call)
        assert (code, reason) == ("UNAUTHENTICATED", "INVALID_API_KEY")
    assert engine.sessions == []


async def test_with_one_everything_is(images, models, shown):
    metadata = shown()
    assert (await drain(images.Generate(REQUEST, metadata=metadata)))[-1] == "completed"
    assert len((await models.ListModels(ListModelsRequest(), metadata=metadata)).models) == 1


async def test_health_and_reflection_need_none(channel):
    health = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    assert [one async for one in reflection.ServerReflectionInfo(asked)]


@pytest.mark.parametrize(
    ("permissions", "model_patterns", "code"),
    [
        pytest.param({Permission.FILL}, ("*",), "PERMISSION_DENIED", id="another-task"),
        pytest.param({Permission.GENERATE}, ("flux",), "PERMISSION_DENIED", id="another-model"),
    ],
)
async def test_a_key_is_for_what_it_says(engine, images, shown, permissions, model_patterns, code):
    metadata = shown(permissions=frozenset(permissions), models=model_patterns)
    assert (await refusal(images.Generate(REQUEST, metadata=metadata)))[:2] == (code, code)
    assert all(session.spec is None for session in engine.sessions)


async def test_only_a_key_that_may_goes_ahead_of_others(engine, images, shown):
    urgent = GenerateRequest(prompt="x", priority=PRIORITY_HIGH)
    code, reason, _, _ = await refusal(images.Generate(urgent, metadata=shown()))
    assert (code, reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert engine.sessions == []
    may = shown(permissions=frozenset({Permission.GENERATE, Permission.PRIORITIZE}))
    assert (await drain(images.Generate(urgent, metadata=may)))[-1] == "completed"


@pytest.mark.parametrize("permission", Permission)
async def test_models_are_managed_by_keys_that_may(models, shown, permission):
    metadata = shown(permissions=frozenset({permission}))
    for call in (
        models.LoadModel(LoadModelRequest(name="models/sdxl"), metadata=metadata),
        models.UnloadModel(UnloadModelRequest(name="models/sdxl"), metadata=metadata),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            await end(call)
        is_denied = caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert is_denied is (permission is not Permission.MANAGE)


async def test_too_many_requests_are_told_when_to_come_again(images, shown, keys):
    metadata = shown(rate_limit="2/hour")
    for _ in range(2):
        await drain(images.Generate(REQUEST, metadata=metadata))
    code, reason, details, trailers = await refusal(images.Generate(REQUEST, metadata=metadata))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert details["QuotaFailure"].violations[0].subject == f"key:{keys.last.id}"
    assert 3500 < details["RetryInfo"].retry_delay.seconds <= 3600
    assert trailers["grpc-retry-pushback-ms"] == "-1"


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\xff\xff\xff", id="no-message"),
        pytest.param(GenerateRequest(prompt="").SerializeToString(), id="no-prompt"),
        pytest.param(
            GenerateRequest(model="models/nobody", prompt="x").SerializeToString(), id="no-model"
        ),
    ],
)
async def test_a_request_counts_whatever_it_turns_out_to_be(
    channel: aio.Channel, shown: Any, request_bytes: bytes
) -> None:
    metadata = shown(rate_limit="2/hour")
    generate = channel.unary_stream("/darkroom.v1.ImageService/Generate")
    codes = []
    for _ in range(3):
        with pytest.raises(aio.AioRpcError) as caught:
            await drain(generate(request_bytes, metadata=metadata))
        codes.append(caught.value.code())
    assert grpc.StatusCode.RESOURCE_EXHAUSTED not in codes[:2]
    assert codes[2] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_so_many_at_a_time(engine, images, shown):
    engine.script = [FOREVER]
    metadata = shown(max_concurrent_requests=1)
    first = images.Generate(REQUEST, metadata=metadata)
    await first.read()
    code, reason, _, trailers = await refusal(images.Generate(REQUEST, metadata=metadata))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert trailers["grpc-retry-pushback-ms"] == "1000"
    first.cancel()
    await engine.sessions[0].left.wait()
    engine.script = [image(), COMPLETED]
    assert await drain(images.Generate(REQUEST, metadata=metadata))


async def test_credits_are_spent_until_there_are_none(images, shown, gate, keys):
    metadata = shown(budget_pixel_steps=2 * COST + 1)
    for _ in range(2):
        await drain(images.Generate(REQUEST, metadata=metadata))
    code, reason, details, trailers = await refusal(images.Generate(REQUEST, metadata=metadata))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "INSUFFICIENT_CREDITS")
    assert (
        "takes 0.65536 credits; 1e-06 are left" in details["QuotaFailure"].violations[0].description
    )
    assert trailers["grpc-retry-pushback-ms"] == "-1"
    await gate.stop()
    assert keys.spent() == 2 * COST


async def test_asking_whether_a_request_is_right_costs_nothing(images, shown, gate, keys):
    metadata = shown(budget_pixel_steps=1)
    asked = GenerateRequest(prompt="x", step_count=10, validate_only=True)
    assert await drain(images.Generate(asked, metadata=metadata)) == ["accepted", "completed"]
    await gate.stop()
    assert keys.spent() == 0


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(GenerationFailed("no"), id="failed-while-it-ran"),
        pytest.param(QueueFull("full", retry_after_s=1), id="not-admitted"),
    ],
)
async def test_what_fails_is_given_back(engine: FakeEngine, images, shown, gate, keys, failure):
    engine.script = [failure]
    if isinstance(failure, QueueFull):
        engine.submit_errors = [failure]
    metadata = shown(budget_pixel_steps=COST)
    await refusal(images.Generate(REQUEST, metadata=metadata))
    engine.script = [image(), COMPLETED]
    assert (await drain(images.Generate(REQUEST, metadata=metadata)))[-1] == "completed"
    await gate.stop()
    assert keys.spent() == COST


async def test_cancelling_costs_what_was_done(engine: FakeEngine, images, shown, gate, keys):
    engine.script = [FOREVER]
    metadata = shown(budget_pixel_steps=COST)
    call = images.Generate(REQUEST, metadata=metadata)
    await call.read()
    engine.sessions[0].steps_done = (3, 10)
    call.cancel()
    await engine.sessions[0].left.wait()
    await gate.stop()
    assert keys.spent() == COST * 3 // 10


async def test_a_deadline_costs_what_was_done(engine: FakeEngine, images, shown, gate, keys):
    engine.script = [FOREVER]
    call = images.Generate(REQUEST, metadata=shown(budget_pixel_steps=COST), timeout=0.5)
    await call.read()
    engine.sessions[0].steps_done = (9, 10)
    with pytest.raises(grpc.RpcError):
        await call.read()
    await engine.sessions[0].left.wait()
    await gate.stop()
    assert keys.spent() == COST * 9 // 10


async def test_many_at_once_cannot_overspend(images, shown, gate, keys):
    metadata = shown(budget_pixel_steps=5 * COST)

    async def ask() -> str:
        try:
            return (await drain(images.Generate(REQUEST, metadata=metadata)))[-1]
        except grpc.RpcError as error:
            return error.code().name

    ends = await asyncio.gather(*(ask() for _ in range(40)))
    assert sorted(set(ends)) == ["RESOURCE_EXHAUSTED", "completed"]
    assert ends.count("completed") == 5
    await gate.stop()
    assert keys.spent() == 5 * COST


async def test_reflection_can_be_closed(keys, engine, metrics):
    gate = Gate(GateOptions(keys_file=keys.file, reflection_needs_key=True))
    options = GrpcOptions(
        host="127.0.0.1", port=0, max_receive_message_bytes=1 << 20, max_concurrent_streams=10
    )
    server = build_server(engine, options, metrics, gate)
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        code, reason, _, _ = await refusal(reflection.ServerReflectionInfo(asked))
        assert (code, reason) == ("UNAUTHENTICATED", "INVALID_API_KEY")
    await server.stop(grace_s=0)
    await gate.stop()
