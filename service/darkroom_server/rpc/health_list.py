"""The messages of `grpc.health.v1.Health/List`, which grpcio-health-checking does not bring yet.

Built from a descriptor of their own, in a pool of their own: the default pool already holds the
package's `health.proto` without them. They are wire-identical to the standard's.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "grpc.health.v1"


def _file() -> descriptor_pb2.FileDescriptorProto:
    """message HealthListResponse { map<string, HealthCheckResponse> statuses = 1; } and its parts.

    A map is a repeated entry message; a status is an int32 here, which enums are on the wire.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="darkroom/health_list.proto", package=_PACKAGE, syntax="proto3"
    )
    file.message_type.add(name="HealthListRequest")
    check = file.message_type.add(name="HealthCheckResponse")
    check.field.add(name="status", number=1, type=_Field.TYPE_INT32, label=_Field.LABEL_OPTIONAL)
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
    return file


_classes: dict[str, Any] = message_factory.GetMessages([_file()], descriptor_pool.DescriptorPool())

HealthListRequest: Any = _classes[f"{_PACKAGE}.HealthListRequest"]
HealthListResponse: Any = _classes[f"{_PACKAGE}.HealthListResponse"]
