"""`adapter.pbtxt`: what is said of an adapter besides its weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format

from darkroom.v1.model_config_pb2 import AdapterConfig
from darkroom_server.domain.problems import Position, ProblemLog
from darkroom_server.parameters.bounds import MAX_ADAPTER_WEIGHT, MAX_NAME_LENGTH

ADAPTER_CONFIG_NAME = "adapter.pbtxt"
_MAX_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """What its file says, or nothing."""

    aliases: tuple[str, ...] = ()
    default_weight: float = 1.0
    trigger_words: tuple[str, ...] = ()
    license: str = ""
    labels: dict[str, int] = field(default_factory=dict)


def read_adapter_config(path: Path, shown: str, problems: ProblemLog) -> AdapterSettings | None:
    """The settings, or None with problems. Blocking."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        problems.error(shown, f"cannot be read: {error.strerror or error}")
        return None
    except UnicodeDecodeError:
        problems.error(shown, "is not UTF-8 text")
        return None
    if len(content) > _MAX_BYTES:
        problems.error(shown, f"is larger than {_MAX_BYTES} bytes")
        return None
    message = AdapterConfig()
    try:
        text_format.Parse(text, message)
    except (text_format.ParseError, RecursionError) as error:
        at = None
        if isinstance(error, text_format.ParseError) and (line := error.GetLine()) is not None:
            at = Position(line, error.GetColumn() or 1)
        problems.error(shown, f"cannot be understood: {error}", at=at)
        return None
    weight = message.default_weight if message.HasField("default_weight") else 1.0
    if not math.isfinite(weight) or abs(weight) > MAX_ADAPTER_WEIGHT:
        problems.error(shown, f"has a default_weight that is not within ±{MAX_ADAPTER_WEIGHT:g}")
        return None
    if any(not alias or len(alias) > MAX_NAME_LENGTH for alias in message.aliases):
        problems.error(shown, f"has an alias that is empty or above {MAX_NAME_LENGTH} characters")
        return None
    return AdapterSettings(
        aliases=tuple(message.aliases),
        default_weight=weight,
        trigger_words=tuple(message.trigger_words),
        license=message.license,
        labels=dict(message.version_labels),
    )
