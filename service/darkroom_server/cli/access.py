"""How the commands that talk to a server reach it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import typer

from darkroom_client import Client, tls_credentials
from darkroom_server.cli import options
from darkroom_server.cli.option_groups import with_group


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


def _check_address(server: str) -> None:
    """Raises typer.BadParameter for what gRPC would take for another port than is meant."""
    wrong = ""
    if re.match("(https?|grpcs?)://", server):
        wrong = f"{server!r} is a URL"
    elif re.fullmatch(r"[^:/]+|\[[^]]*\]", server):
        wrong = f"{server!r} has no port"
    if wrong:
        text = f"{wrong}; give HOST:PORT of gRPC, such as {options.DEFAULT_SERVER}"
        raise typer.BadParameter(text, param_hint="--server")


def _server_access(
    server: options.Server = options.DEFAULT_SERVER,
    api_key: options.ApiKey = None,
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    client_certificate: options.ClientCertificate = None,
    client_key: options.ClientKey = None,
) -> ServerAccess:
    _check_address(server)
    if (client_certificate is None) != (client_key is None):
        hint = "--client-key" if client_key is None else "--client-certificate"
        text = "--client-certificate and --client-key go together; give both"
        raise typer.BadParameter(text, param_hint=hint)
    return ServerAccess(server, api_key, tls, tls_ca, client_certificate, client_key)


#: Gives a command the options that make a ServerAccess, in place of its parameter `access`.
with_access = with_group("access", _server_access)
