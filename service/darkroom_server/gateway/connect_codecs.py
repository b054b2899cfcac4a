"""How Connect and gRPC-Web messages are read and written: reading waits until it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from darkroom_server.domain.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Unread:
    """A message as it came, so that it is parsed off the loop and its errors are Darkroom's."""

    _parse: Callable[[], Message]

    def read(self) -> Message:
        """The message; CPU-bound. Raises InvalidParameter."""
        try:
            return self._parse()
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
        return Unread(lambda: message_class.FromString(bytes(data)))


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
        return Unread(lambda: json_format.Parse(bytes(data), message_class()))
