"""A configuration sent along with a load: fields that replace those of a model's `config.pbtxt`.

It is JSON with the fields of `darkroom.v1.ModelConfig`. What the inference protocol says of a
model, and its clients send back, is in Triton's terms: of its fields those count that mean the
same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format, text_format
from google.protobuf.message import Message

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.model_config.config_file import MAX_CONFIG_BYTES

FIELD: Final = "config"
#: Fields of Triton's that say what a model is, which here its files do.
_TRITON_S: Final = (
    *("platform", "runtime", "input", "output", "batch_input", "batch_output", "optimization"),
    *("model_transaction_policy", "default_model_filename", "cc_model_filenames", "metric_tags"),
    *("model_operations", "model_repository_agents", "response_cache", "model_metrics"),
)

#: What the server runs or asks for a model: the operator's file alone says so, no caller.
_OPERATORS_S: Final = frozenset({"prompt_upsampling", "promptUpsampling"})


class ConfigOverride:
    """The fields that were sent. Immutable; raises InvalidParameter where they make no sense."""

    def __init__(self, text: str, name: str) -> None:
        """Reads the JSON of a load of the model of that name."""
        if len(text.encode("utf-8", "replace")) > MAX_CONFIG_BYTES:
            raise InvalidParameter(FIELD, f"has more than {MAX_CONFIG_BYTES} bytes")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidParameter(FIELD, "is no JSON") from error
        if not isinstance(found, dict):
            raise InvalidParameter(FIELD, "is no JSON object")
        if owned := _OPERATORS_S & found.keys():
            raise InvalidParameter(FIELD, f"{min(owned)} can only be set in config.pbtxt")
        if found.get("name", name) not in ("", name):
            raise InvalidParameter(FIELD, f"name is another than that of the model, {name}")
        fields = {
            key: _groups(value) if key == "instance_group" else value
            for key, value in found.items()
            if _is_ours(key, value)
        }
        self._message = model_config_pb2.ModelConfig()
        try:
            json_format.ParseDict(fields, self._message)
        except (json_format.ParseError, RecursionError) as error:
            raise InvalidParameter(FIELD, f"is no configuration: {str(error)[:300]}") from error
        descriptor = self._message.DESCRIPTOR
        self._replaced = [
            field.name for field in descriptor.fields if {field.name, field.json_name} & set(fields)
        ]

    def over(self, content: bytes) -> bytes:
        """The text of a config with these fields; text that cannot be read stays as it is."""
        config = model_config_pb2.ModelConfig()
        try:
            text_format.Parse(content.decode(), config)
        except (text_format.ParseError, ValueError):
            return content
        for field in self._replaced:
            config.ClearField(field)  # type: ignore[arg-type]
        config.MergeFrom(self._message)
        return _text(config)


def _is_ours(key: str, value: Any) -> bool:
    """Whether the field is Darkroom's, or nobody's, which is an error."""
    match key:
        case "backend":
            return bool(value != "darkroom")
        case "parameters":
            return not isinstance(value, Mapping)
        case "max_batch_size":
            # What clients may put together, not what the server does.
            return bool(value != 0)
    return key not in _TRITON_S


def _groups(value: Any) -> Any:
    """Instance groups without the names that Triton gives them."""
    if not isinstance(value, list):
        return value
    groups = [dict(one) if isinstance(one, Mapping) else one for one in value]
    for one in groups:
        if isinstance(one, dict):
            one.pop("name", None)
    return groups


def _text(config: Message) -> bytes:
    return text_format.MessageToString(config, as_utf8=True).encode()
