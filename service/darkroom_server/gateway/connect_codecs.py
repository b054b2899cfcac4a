"""How Connect and gRPC-Web messages are read and written: reading waits until it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.gateway.bodies import require_few_values
from darkroom_server.gateway.connect_gzip import Packed
from darkroom_server.wire.field_count import require_few_fields


class Unread:
    """A message as it came, so that it is unpacked and parsed off the loop and its errors are
    Darkroom's. It is read once.
    """

    def __init__(self, data: bytes | bytearray, parse: Callable[[bytes], Message]) -> None:
        self._data: bytes | bytearray = data
        self._parse = parse

    def read(self) -> Message:
        """The message; CPU-bound. Raises InvalidParameter, RequestTooLarge."""
        # Released here: the caller's frame may be freed only by the garbage collector.
        data, self._data = self._data, b""
        content = data.unpacked() if isinstance(data, Packed) else bytes(data)
        try:
            return self._parse(content)
        except (json_format.ParseError, DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = f"the body is no message of this method: {error}"
            raise InvalidParameter("request", text) from error


class BinaryCodec:
    """Protocol buffers."""

    def name(self) -> str:
        """What the content type says."""
        return "proto"

    def encode(self, message: Message) -> bytes:
        """The message's bytes."""
        return message.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Unread:
        """The message, not yet read."""

        def parse(content: bytes) -> Message:
            require_few_fields(content, message_class.DESCRIPTOR)
            message: Message = message_class.FromString(content)
            return message

        return Unread(data, parse)


class JsonCodec:
    """Protocol buffers' JSON; a name that no field has is an error, for people write it too."""

    def name(self) -> str:
        """What the content type says."""
        return "json"

    def encode(self, message: Message) -> bytes:
        """The message as JSON in one line."""
        return json_format.MessageToJson(message, indent=None).encode()

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> Unread:
        """The message, not yet read."""

        def parse(content: bytes) -> Message:
            require_few_values(content)
            message: Message = json_format.Parse(content, message_class())
            return message

        return Unread(data, parse)
