"""The inference protocol's messages about models as JSON, as its HTTP clients read them.

All raise ModelNotFound where they take a version or a model's name.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from darkroom_server.domain.model_status import ModelStatus
from darkroom_server.engine.engine import Engine
from darkroom_server.wire.kserve import metadata
from darkroom_server.wire.kserve.statistics import model_statistics


def server_metadata_json() -> dict[str, Any]:
    """What the server is, and which extensions it has."""
    return _json(metadata.server_metadata())


def statistics_json(engine: Engine, name: str, version: str) -> dict[str, Any]:
    """What was counted of a version, of a model, or without names of all."""
    return _json(model_statistics(engine, name, version))


def model_config_json(status: ModelStatus, version: str) -> dict[str, Any]:
    """How a model is configured, in Triton's terms."""
    return _json(metadata.model_config(status, version))


def model_metadata_json(status: ModelStatus, version: str) -> dict[str, Any]:
    """The tensors that a model takes and returns."""
    return _json(metadata.model_metadata(status, version))


def repository_index_json(
    statuses: tuple[ModelStatus, ...], *, only_ready: bool
) -> list[dict[str, Any]]:
    """Every version of every model, or of those that serve."""
    index = metadata.repository_index(statuses, only_ready=only_ready)
    return [_json(one) for one in index.models]


def _json(message: Message) -> dict[str, Any]:
    """With numbers of 64 bits as numbers, where protobuf's mapping writes strings."""
    named: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _with_numbers(named, message.DESCRIPTOR)


def _with_numbers(value: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    for field in descriptor.fields:
        if field.name not in value:
            continue
        found, nested = value[field.name], field.message_type
        if nested is not None and nested.GetOptions().map_entry:
            continue
        if nested is not None:
            for one in found if isinstance(found, list) else [found]:
                _with_numbers(one, nested)
        elif field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            value[field.name] = [int(one) for one in found] if field.is_repeated else int(found)
    return value
