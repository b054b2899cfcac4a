"""Adapters of a request: what is asked for meets what the model has."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from darkroom_server.domain.adapters import AdapterUse, AdapterVersion
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.parameters.bounds import (
    MAX_ADAPTER_COUNT,
    MAX_ADAPTER_WEIGHT,
    MAX_NAME_LENGTH,
)
from darkroom_server.requests.image_requests import AdapterRequest, ImageRequest

FIELD = "adapters"
#: Names that are listed where one is not known.
_TOLD_NAMES = 10


def check_adapters(asked: Sequence[AdapterRequest]) -> None:
    """Raises InvalidParameter for more or longer ones than any model takes."""
    if len(asked) > MAX_ADAPTER_COUNT:
        text = f"{len(asked)} were asked for; at most {MAX_ADAPTER_COUNT} are taken"
        raise InvalidParameter(FIELD, text)
    for one in asked:
        if not one.name:
            raise InvalidParameter(FIELD, "one has no name")
        if len(one.name) > MAX_NAME_LENGTH or len(one.version) > MAX_NAME_LENGTH:
            raise InvalidParameter(FIELD, f"a name is longer than {MAX_NAME_LENGTH} characters")
        weight = one.weight
        if weight is None or (math.isfinite(weight) and abs(weight) <= MAX_ADAPTER_WEIGHT):
            continue
        most = f"{MAX_ADAPTER_WEIGHT:g}"
        raise InvalidParameter(
            FIELD, f"the weight of {one.name!r} is not between -{most} and {most}"
        )


def adapter_uses(
    request: ImageRequest, model: str, known: Sequence[AdapterVersion]
) -> tuple[AdapterUse, ...]:
    """The versions that will run, each with its weight; raises InvalidParameter.

    `known` are the adapters of the model of that name.
    """
    if request.adapters and request.feature_cache is not None:
        raise InvalidParameter("feature_cache", "it does not go with adapters")
    uses: list[AdapterUse] = []
    for asked in request.adapters:
        found = _found(asked, model, known)
        if any(use.adapter.name == found.name for use in uses):
            raise InvalidParameter(FIELD, f"{found.name!r} is there twice")
        weight = found.default_weight if asked.weight is None else asked.weight
        uses.append(AdapterUse(adapter=found, weight=weight))
    return tuple(uses)


def default_version(versions: Sequence[AdapterVersion]) -> AdapterVersion:
    """Of one adapter, what requests get that name no version: label `stable`, else the highest."""
    stable = (one for one in versions if "stable" in one.labels)
    return next(stable, max(versions, key=lambda one: one.version))


def _found(asked: AdapterRequest, model: str, known: Sequence[AdapterVersion]) -> AdapterVersion:
    name, version = asked.name, asked.version
    versions = _called(name, known)
    if not versions and not version and "/" in name:
        name, _, version = name.rpartition("/")
        versions = _called(name, known)
    if not versions:
        raise InvalidParameter(FIELD, _unknown(asked.name, model, known))
    if not version:
        return default_version(versions)
    for one in versions:
        if version in (str(one.version), *one.labels):
            return one
    there = ", ".join(str(one.version) for one in sorted(versions, key=lambda v: v.version))
    raise InvalidParameter(FIELD, f"{name!r} has no version {version[:64]!r}; there are: {there}")


def _called(name: str, known: Sequence[AdapterVersion]) -> list[AdapterVersion]:
    own = [one for one in known if one.name == name]
    folded = name.casefold()
    return own or [one for one in known if folded in (alias.casefold() for alias in one.aliases)]


def _unknown(name: str, model: str, known: Sequence[AdapterVersion]) -> str:
    names = sorted({one.name for one in known})
    shown = f"models/{model} has no adapter {name[:64]!r}"
    if not names:
        return f"{shown}: it has none"
    others = {alias: one.name for one in known for alias in one.aliases}
    close = difflib.get_close_matches(name, [*names, *others], n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    more = f" and {len(names) - _TOLD_NAMES} more" if len(names) > _TOLD_NAMES else ""
    return f"{shown}{hint}; it has: {', '.join(names[:_TOLD_NAMES])}{more}"
