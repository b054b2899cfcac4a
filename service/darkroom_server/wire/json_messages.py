"""`darkroom.v1`'s messages as JSON: protobuf's JSON mapping, with whole images in events."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest, GenerationEvent
from darkroom.v1.model_service_pb2 import ListModelsResponse
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import JobImage
from darkroom_server.domain.model_status import ModelStatus
from darkroom_server.domain.models import ModelRef
from darkroom_server.domain.request_events import RequestEvent
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.events import EventWriter
from darkroom_server.wire.messages import parse_fill, parse_generate
from darkroom_server.wire.model_messages import model_message

#: An event's name and data.
JsonEvent: TypeAlias = "tuple[str, dict[str, Any]]"
_Message = TypeVar("_Message", bound=Message)


def parse_generate_json(body: bytes) -> tuple[ModelRef, ImageRequest]:
    """A GenerateRequest in JSON. CPU-bound; raises FieldError."""
    return parse_generate(_message(body, GenerateRequest()))


def parse_fill_json(body: bytes) -> tuple[ModelRef, ImageRequest]:
    """A FillRequest in JSON. CPU-bound; raises FieldError."""
    return parse_fill(_message(body, FillRequest()))


def _message(body: bytes, message: _Message) -> _Message:
    try:
        return json_format.Parse(body, message)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter("request", f"the body is no such message: {error}") from error


def models_json(statuses: Iterable[ModelStatus]) -> dict[str, Any]:
    """The answer of ListModels."""
    message = ListModelsResponse(models=[model_message(status) for status in statuses])
    found: dict[str, Any] = json_format.MessageToDict(message)
    return found


class JsonEventWriter:
    """Writes the events of one request in JSON. Not shared between calls.

    `now_ns` is the wall clock, nanoseconds since 1970.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._writer = EventWriter(now_ns)

    def write(self, event: RequestEvent, dropped_count: int = 0) -> Iterator[JsonEvent]:
        """Name and data. An image comes in one event with its bytes; `dropped_count` as there."""
        for message in self._writer.write(event, dropped_count):
            name = message.WhichOneof("event") or ""
            data = _json(message)
            if isinstance(event, JobImage):
                data["image"]["content"] = base64.b64encode(event.content).decode()
                yield name, data
                return  # without its chunks
            yield "done" if name == "completed" else name, data


def _json(event: GenerationEvent) -> dict[str, Any]:
    """The event, with numbers that are 0 written: a form shows them."""
    data: dict[str, Any] = json_format.MessageToDict(
        event, always_print_fields_with_no_presence=True
    )
    return data
