"""Server reflection, for tools that have no proto files: v1 and its forerunner v1alpha."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

V1ALPHA_SERVICE = reflection.SERVICE_NAME
#: The same messages under another name; only the package of the service differs on the wire.
V1_SERVICE = "grpc.reflection.v1.ServerReflection"


def add_reflection(service_names: Iterable[str], server: aio.Server) -> None:
    """Lists the services given and both of reflection's own."""
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
