"""Requests of `darkroom.v1.ModelService` become the service's own values."""

from __future__ import annotations

import math

from darkroom.v1 import model_service_pb2 as pb
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.requests.limits import check_name

#: A duration that no request takes.
MAX_DRAIN_S = 7 * 24 * 3600.0


def check_model_name(name: str) -> None:
    """Raises InvalidParameter for a name that is missing or absurdly long."""
    if not name:
        raise InvalidParameter("name", "give the name of a model")
    check_name("name", name)


def parse_drain_s(request: pb.UnloadModelRequest) -> float | None:
    """How long requests may take to end, None for as long as they need; raises InvalidParameter."""
    if not request.HasField("drain_duration"):
        return None
    drain_s = request.drain_duration.seconds + request.drain_duration.nanos / 1e9
    if not 0 <= drain_s <= MAX_DRAIN_S:
        raise InvalidParameter("drain_duration", f"{drain_s:g} s is not in 0 to {MAX_DRAIN_S:g} s")
    return drain_s


def parse_traffic_percent(request: pb.SetVersionLabelRequest) -> float | None:
    """A share of requests, None where it is to stay; raises InvalidParameter."""
    if not request.HasField("traffic_percent"):
        return None
    percent = request.traffic_percent
    if not (math.isfinite(percent) and 0 <= percent <= 100):
        raise InvalidParameter("traffic_percent", f"{percent:g} is not in 0 to 100")
    return percent
