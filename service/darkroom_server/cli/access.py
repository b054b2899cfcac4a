"""How the commands that talk to a server reach it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from darkroom_client import Client, tls_credentials
from darkroom_server.cli import options


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """A server's address, and what it asks of callers. Naming a file of TLS turns TLS on."""

    server: str
    api_key: str | None = field(repr=False)
    tls: bool
    ca: Path | None
    certificate: Path | None
    key: Path | None

    def connect(self, *, max_attempts: int = 4) -> Client:
        """A client of it; raises OSError for files that cannot be read."""
        files = (self.ca, self.certificate, self.key)
        credentials = (
            tls_credentials(ca=self.ca, certificate=self.certificate, key=self.key)
            if self.tls or any(files)
            else None
        )
        return Client(
            self.server,
            max_attempts=max_attempts,
            api_key=self.api_key,
            credentials=credentials,
        )


def with_access(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that make a ServerAccess, in place of its parameter `access`."""
    own = inspect.signature(command, eval_str=True).parameters
    connection = inspect.signature(_server_access, eval_str=True).parameters
    parameters: list[inspect.Parameter] = []
    for one in own.values():
        parameters += (
            [option.replace(kind=one.kind) for option in connection.values()]
            if one.name == "access"
            else [one]
        )

    @wraps(command)
    def with_options(**given: Any) -> None:
        access = _server_access(**{name: given.pop(name) for name in connection})
        command(access=access, **given)

    # What typer reads: the options, and their types as they are.
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_options


def _server_access(
    server: options.Server = options.DEFAULT_SERVER,
    api_key: options.ApiKey = None,
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    client_certificate: options.ClientCertificate = None,
    client_key: options.ClientKey = None,
) -> ServerAccess:
    return ServerAccess(server, api_key, tls, tls_ca, client_certificate, client_key)
