"""Server reflection under both of its names."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
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
        "xds.service.orca.v3.OpenRcaService",
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


async def files_of(
    channel, service: str, symbol: str
) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    response = await ask(channel, service, file_containing_symbol=symbol)
    contents = response.file_descriptor_response.file_descriptor_proto
    files = map(descriptor_pb2.FileDescriptorProto.FromString, contents)
    return {file.name: file for file in files}


@pytest.mark.parametrize("service", SERVICES)
async def test_health_is_described_with_list(channel, service):
    [file] = (await files_of(channel, service, "grpc.health.v1.Health")).values()
    methods = {method.name: method for method in file.service[0].method}
    assert set(methods) == {"Check", "Watch", "List"}
    assert methods["List"].output_type == ".grpc.health.v1.HealthListResponse"
    assert "HealthListResponse" in {message.name for message in file.message_type}


@pytest.mark.parametrize("service", SERVICES)
async def test_load_reports_are_described_by_their_names_on_the_wire(channel, service):
    found = await files_of(channel, service, "xds.service.orca.v3.OpenRcaService")
    # A pool can be made of what is told, which a client does.
    pool = descriptor_pool.DescriptorPool()
    for name in ("google/protobuf/duration.proto", "xds/data/orca/v3/orca_load_report.proto"):
        pool.Add(found.pop(name))
    [file] = found.values()
    pool.Add(file)
    method = pool.FindMethodByName("xds.service.orca.v3.OpenRcaService.StreamCoreMetrics")
    assert method.output_type.full_name == "xds.data.orca.v3.OrcaLoadReport"
    numbers = {field.name: field.number for field in method.output_type.fields}
    assert (numbers["named_metrics"], numbers["application_utilization"]) == (8, 9)
