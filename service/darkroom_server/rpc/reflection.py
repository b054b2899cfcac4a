"""Server reflection, for tools that have no proto files: v1 and its forerunner v1alpha."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, text_format
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2  # type: ignore[import-untyped]

from darkroom.kserve.v2 import inference_pb2
from darkroom.xds.data.orca.v3 import orca_load_report_pb2
from darkroom.xds.service.orca.v3 import orca_pb2
from darkroom_server.rpc.health_list import HEALTH_POOL

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


class _Pools:
    """The descriptors of the process, and those that are others on the wire.

    Health comes first, for that of the process lacks List. Protocols of others come last: in the
    pool of the process their names are their clients'.
    """

    def __init__(self) -> None:
        default: Any = descriptor_pool.Default()
        inference = _renamed((inference_pb2,), inference_pb2.DESCRIPTOR.package, "inference")
        load = _renamed((orca_load_report_pb2, orca_pb2), "darkroom.xds", "xds")
        self._pools: tuple[Any, ...] = (HEALTH_POOL, default, inference, load)

    def _found(self, find: str, *names: Any) -> Any:
        *others, last = self._pools
        for pool in others:
            try:
                return getattr(pool, find)(*names)
            except KeyError:
                continue
        return getattr(last, find)(*names)

    def FindFileByName(self, name: str) -> Any:
        """Raises KeyError, as all of them do."""
        return self._found("FindFileByName", name)

    def FindFileContainingSymbol(self, name: str) -> Any:
        """The file of a service, a message or a part of one."""
        return self._found("FindFileContainingSymbol", name)

    def FindMessageTypeByName(self, name: str) -> Any:
        """A message."""
        return self._found("FindMessageTypeByName", name)

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:
        """An extension of a message; only those of the process have any."""
        return self._pools[1].FindExtensionByNumber(message, number)

    def FindAllExtensions(self, message: Any) -> Any:
        """All of them."""
        return self._pools[1].FindAllExtensions(message)


def _renamed(modules: Iterable[Any], own: str, wire: str) -> descriptor_pool.DescriptorPool:
    """Files of the generated code under the package that they have on the wire."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
    for module in modules:
        described = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(described)
        text = str(described).replace(f".{own}.", f".{wire}.")
        text = re.sub(rf'^(package: "){re.escape(own)}(?=["\.])', rf"\g<1>{wire}", text, flags=re.M)
        folder = "/".join(own.split(".")) + "/"
        text = text.replace(f'dependency: "{folder}', f'dependency: "{wire}/')
        file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
        file.name = file.name.replace(folder, f"{wire}/", 1)
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def add_reflection(service_names: Iterable[str], server: aio.Server) -> None:
    """Lists the services given and both of reflection's own."""
    _describe_v1()
    servicer = reflection.aio.ReflectionServicer(
        (*service_names, V1_SERVICE, V1ALPHA_SERVICE), pool=_Pools()
    )
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
