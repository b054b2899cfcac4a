"""How both clients reach a server: channel options, retry policy, and what rides on every call."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

import grpc

#: Room to keep a request for sending it again. gRPC's own 256 KiB would silently turn retrying off
#: for a Fill of any size; this is the largest request a server takes.
_RETRY_BUFFER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where the server is and how to speak to it.

    `timeout` in seconds holds for calls that give none; None waits for as long as it takes.
    `max_attempts` counts the first try; 1 turns retrying off, gRPC itself takes no more than 5.
    """

    server: str
    token: str | None = field(default=None, repr=False)
    credentials: grpc.ChannelCredentials | None = None
    timeout: float | None = None
    wait_for_ready: bool = False
    max_attempts: int = 4

    def channel_options(self) -> list[tuple[str, str | int]]:
        """Options of the channel. Limits of message sizes stay gRPC's own: images are chunked."""
        return [
            ("grpc.service_config", json.dumps(service_config(self.max_attempts))),
            ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        ]

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Metadata of one call."""
        metadata = (("x-request-id", request_id),)
        if self.token is None:
            return metadata
        return (*metadata, ("authorization", f"Bearer {self.token}"))


def service_config(max_attempts: int) -> dict[str, object]:
    """The retry policy as a gRPC service config: UNAVAILABLE only, with exponential back-off.

    A delay that the server asks for by `grpc-retry-pushback-ms` takes the place of the back-off,
    and a negative one ends the tries: gRPC sees to that.
    """
    if max_attempts < 2:
        return {}
    return {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": max_attempts,
                    "initialBackoff": "0.2s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }


def new_request_id() -> str:
    """An id for one call, unique without asking anyone."""
    return uuid.uuid4().hex
