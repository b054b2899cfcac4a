"""`grpc.health.v1.Health/List`, which grpcio-health-checking does not bring yet.

The standard's file with what it lacks, in a pool of its own: the default pool already holds the
file without it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "grpc.health.v1"


def _file() -> descriptor_pb2.FileDescriptorProto:
    """With List, whose answer has `map<string, HealthCheckResponse> statuses = 1`.

    A map is a repeated entry message.
    """
    file = descriptor_pb2.FileDescriptorProto()
    health_pb2.DESCRIPTOR.CopyToProto(file)
    if any(method.name == "List" for method in file.service[0].method):
        return file
    file.message_type.add(name="HealthListRequest")
    response = file.message_type.add(name="HealthListResponse")
    entry = response.nested_type.add(name="StatusesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=_Field.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.HealthCheckResponse",
        label=_Field.LABEL_OPTIONAL,
    )
    response.field.add(
        name="statuses",
        number=1,
        type=_Field.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.HealthListResponse.StatusesEntry",
        label=_Field.LABEL_REPEATED,
    )
    names = {"input_type": "HealthListRequest", "output_type": "HealthListResponse"}
    types = {kind: f".{_PACKAGE}.{name}" for kind, name in names.items()}
    file.service[0].method.add(name="List", **types)
    return file


#: Where reflection finds the service as it is.
HEALTH_POOL = descriptor_pool.DescriptorPool()
_classes: dict[str, Any] = message_factory.GetMessages([_file()], HEALTH_POOL)

HealthListRequest: Any = _classes[f"{_PACKAGE}.HealthListRequest"]
HealthListResponse: Any = _classes[f"{_PACKAGE}.HealthListResponse"]
