"""The standard health service: is the server there, and does it take requests?"""

from __future__ import annotations

import enum

from grpc_health.v1 import health_pb2  # type: ignore[import-untyped,unused-ignore]


class Health(enum.Enum):
    """What a server says of itself or of one of its services."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2


_HEALTHS = {health.value: health for health in Health}


def check_request(service: str) -> health_pb2.HealthCheckRequest:
    """The request that asks about a service; empty for the server as a whole."""
    return health_pb2.HealthCheckRequest(service=service)


def health_of(response: health_pb2.HealthCheckResponse) -> Health:
    """What the response says."""
    return _HEALTHS.get(response.status, Health.UNKNOWN)
