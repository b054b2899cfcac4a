"""Server reflection, for tools that have no proto files: v1 and its forerunner v1alpha."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

V1ALPHA_SERVICE = reflection.SERVICE_NAME
#: The same messages under another name; only the package of the service differs on the wire.
V1_SERVICE = "grpc.reflection.v1.ServerReflection"


def _describe_v1() -> None:
    """Registers v1's description, made from v1alpha's, so that clients can resolve its name."""
    pool = descriptor_pool.Default()
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = str(alpha).replace("reflection.v1alpha", "reflection.v1")
    described = text_format.Parse(
        text.replace("reflection/v1alpha", "reflection/v1"), descriptor_pb2.FileDescriptorProto()
    )
    try:
        pool.FindFileByName(described.name)
    except KeyError:
        pool.AddSerializedFile(described.SerializeToString())


def add_reflection(service_names: Iterable[str], server: aio.Server) -> None:
    """Lists the services given and both of reflection's own."""
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer((*service_names, V1_SERVICE, V1ALPHA_SERVICE))
    info = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info})
            for name in (V1_SERVICE, V1ALPHA_SERVICE)
        )
    )
