"""Server reflection under both of its names."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

SERVICES = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


async def ask(channel, service: str, **question):
    call = channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )([reflection_pb2.ServerReflectionRequest(**question)])
    (response,) = [response async for response in call]
    return response


@pytest.mark.parametrize("service", SERVICES)
async def test_all_services_are_listed(channel, service):
    response = await ask(channel, service, list_services="")
    assert sorted(each.name for each in response.list_services_response.service) == [
        "darkroom.v1.ImageService",
        "darkroom.v1.ModelService",
        "grpc.health.v1.Health",
        *SERVICES,
        "inference.GRPCInferenceService",
    ]


@pytest.mark.parametrize("service", SERVICES)
async def test_a_method_can_be_called_from_what_reflection_tells(channel, service):
    response = await ask(channel, service, file_containing_symbol="darkroom.v1.ImageService")
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(content)
        for content in response.file_descriptor_response.file_descriptor_proto
    ]
    names = {file.name for file in files}
    assert {"darkroom/v1/image_service.proto", "darkroom/v1/image.proto"} <= names


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("symbol", SERVICES)
async def test_every_listed_reflection_service_is_described(channel, service, symbol):
    response = await ask(channel, service, file_containing_symbol=symbol)
    contents = response.file_descriptor_response.file_descriptor_proto
    described = {
        f"{file.package}.{one.name}"
        for file in map(descriptor_pb2.FileDescriptorProto.FromString, contents)
        for one in file.service
    }
    assert symbol in described


@pytest.mark.parametrize("service", SERVICES)
async def test_the_inference_protocol_is_described_by_its_name_on_the_wire(channel, service):
    name = "inference.GRPCInferenceService"
    for symbol in (name, "inference.ModelInferRequest"):
        response = await ask(channel, service, file_containing_symbol=symbol)
        [content] = response.file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(content)
        assert file.package == "inference"
        [infer] = [one for one in file.service[0].method if one.name == "ModelInfer"]
        assert infer.input_type == ".inference.ModelInferRequest"
