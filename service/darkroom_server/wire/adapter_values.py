"""Adapters in HTTP's bodies, as the services' callers write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.requests.image_requests import AdapterRequest

_NAMES = ("name", "path", "lora", "model", "id")
_WEIGHTS = ("weight", "scale", "strength")


def adapters_of(value: Any, field: str) -> tuple[AdapterRequest, ...] | None:
    """A name, weights by name, one `{"path": …, "scale": …}`, or a list of such.

    None where there are none. Raises InvalidParameter.
    """
    if isinstance(value, dict) and not any(name in value for name in _NAMES):
        found = [_one({"name": name, "weight": weight}, field) for name, weight in value.items()]
    elif isinstance(value, list):
        found = [_one(one, field) for one in value]
    else:
        found = [_one(value, field)]
    return tuple(found) or None


def _one(value: Any, field: str) -> AdapterRequest:
    if isinstance(value, str):
        text, has_weight, written = value.partition("=")
        return AdapterRequest(text, "", _weight(written, field) if has_weight else None)
    if not isinstance(value, dict):
        raise InvalidParameter(field, "is neither a name nor an object with a name and a weight")
    name = next((value[key] for key in _NAMES if key in value), None)
    weight = next((value[key] for key in _WEIGHTS if value.get(key) is not None), None)
    version = value.get("version") or ""
    if not isinstance(name, str) or not isinstance(version, str | int):
        raise InvalidParameter(field, "has an adapter without a name")
    return AdapterRequest(name, str(version), None if weight is None else _weight(weight, field))


def _weight(value: Any, field: str) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = math.nan
        if math.isfinite(found):
            return found
    raise InvalidParameter(field, "has a weight that is no number")


#: Inputs of models that are published with one or two adapters, each with its scale.
_PAIRS = (
    ("lora_weights", "lora_scale"),
    ("hf_lora", "lora_scale"),
    ("extra_lora", "extra_lora_scale"),
)


def with_one_list(values: Mapping[str, Any]) -> dict[str, Any]:
    """An input in which `lora_weights`, `extra_lora` and their scales are `loras`."""
    made = dict(values)
    found = [
        {"path": made.pop(name), "scale": made.get(scale)}
        for name, scale in _PAIRS
        if made.get(name) is not None
    ]
    if found and "loras" not in made:
        for _, scale in _PAIRS:
            made.pop(scale, None)
        made["loras"] = found
    return made
