"""How both clients reach a server: channel options, retry policy, and what rides on every call."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path

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
    api_key: str | None = field(default=None, repr=False)
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
        if self.api_key is None:
            return metadata
        return (*metadata, ("authorization", f"Bearer {self.api_key}"))


def tls_credentials(
    *, ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """Credentials for TLS, from PEM files; raises OSError, ValueError.

    `ca` is whose certificates are trusted, gRPC's own list without it. `certificate` and `key` are
    the client's, for servers that ask for one; they go together. Example::

        client = Client("host:8001", credentials=tls_credentials(ca=Path("ca.pem")))
    """
    if (certificate is None) != (key is None):
        # gRPC itself ends the process.
        raise ValueError("certificate and key go together; give both")
    ca_pem, certificate_pem, key_pem = (
        None if file is None else file.read_bytes() for file in (ca, certificate, key)
    )
    return grpc.ssl_channel_credentials(ca_pem, key_pem, certificate_pem)


def service_config(max_attempts: int) -> dict[str, object]:
    """The retry policy as a gRPC service config: UNAVAILABLE only, with exponential back-off.

    A delay that the server asks for by `grpc-retry-pushback-ms` takes the place of the back-off,
    and a negative one ends the tries: gRPC does that.
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
    """A random id for one call."""
    return uuid.uuid4().hex
