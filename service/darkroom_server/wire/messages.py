"""Requests of `darkroom.v1.ImageService` become the service's own values."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from darkroom.v1 import image_service_pb2
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelRef
from darkroom_server.parameters.bounds import MAX_ADAPTER_COUNT, MAX_REFERENCE_COUNT
from darkroom_server.parameters.parameter import Kind, Parameter
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.requests.image_requests import AdapterRequest, ImageRequest, image_request
from darkroom_server.requests.limits import check_limits, check_name


def parse_generate(
    request: image_service_pb2.GenerateRequest,
) -> tuple[ModelRef, ImageRequest]:
    """The model asked for and what is asked of it.

    Raises InvalidParameter and ImageTooLarge, naming the field.
    """
    has_image = request.HasField("image")
    if request.HasField("strength") and not has_image:
        raise InvalidParameter("strength", "it needs an image to begin with")
    if request.reference_images and not has_image:
        return _parse(request, Task.EDIT)
    return _parse(request, Task.IMAGE_TO_IMAGE if has_image else Task.TEXT_TO_IMAGE)


def parse_fill(request: image_service_pb2.FillRequest) -> tuple[ModelRef, ImageRequest]:
    """As `parse_generate`; image and mask stay encoded. Raises InvalidParameter, ImageTooLarge."""
    return _parse(request, Task.FILL)


def _parse(request: Message, task: Task) -> tuple[ModelRef, ImageRequest]:
    said = _said(request)
    ref = ModelRef(said[""].pop("model", ""), said[""].pop("version", ""))
    parsed = image_request(task, said)
    check_name("model", ref.name)
    check_name("version", ref.version)
    check_limits(parsed)
    return ref, parsed


def _said(request: Message) -> dict[str, dict[str, Any]]:
    """What of the table is set in the message."""
    said: dict[str, dict[str, Any]] = {"": {}}
    for parameter in PARAMETERS.values():
        if parameter.group and not _has(request, parameter.group):
            continue
        holder = getattr(request, parameter.group) if parameter.group else request
        values = said.setdefault(parameter.group, {})
        if _has(holder, parameter.leaf):
            values[parameter.leaf] = _value(parameter, holder)
    return said


def _has(message: Message, name: str) -> bool:
    """Whether the field is there and set; without presence, whether it is not 0 or empty."""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        return False
    return message.HasField(name) if field.has_presence else bool(getattr(message, name))


def _require_few(parameter: Parameter, count: int) -> None:
    """Before any of them is read: a message of the largest size has room for millions."""
    most = MAX_REFERENCE_COUNT if parameter.kind is Kind.PICTURES else MAX_ADAPTER_COUNT
    if count > most:
        raise InvalidParameter(parameter.path, f"has {count} entries; at most {most} are taken")


def _value(parameter: Parameter, message: Message) -> Any:
    """For an enum, the member of the domain's that is called as the message's, less its prefix."""
    value = getattr(message, parameter.leaf)
    if parameter.kind in (Kind.PICTURES, Kind.ADAPTERS):
        _require_few(parameter, len(value))
    if parameter.kind is Kind.PICTURES:
        return tuple(one.content for one in value)
    if parameter.kind is Kind.ADAPTERS:
        return tuple(
            AdapterRequest(one.name, one.version, one.weight if one.HasField("weight") else None)
            for one in value
        )
    numbers = message.DESCRIPTOR.fields_by_name[parameter.leaf].enum_type
    if numbers is None:
        return value
    found = numbers.values_by_number.get(value)
    if found is None:
        raise InvalidParameter(parameter.path, f"{value} is not a known value")
    prefix = numbers.values_by_number[0].name.removesuffix("UNSPECIFIED")
    members = {member.name: member for member in parameter.choices.values()}
    return members[found.name.removeprefix(prefix)]
