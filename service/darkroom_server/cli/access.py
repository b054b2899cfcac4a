"""How the commands that talk to a server reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

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


def _server_access(
    server: options.Server = options.DEFAULT_SERVER,
    api_key: options.ApiKey = None,
    tls: options.Tls = False,
    tls_ca: options.TlsCa = None,
    client_certificate: options.ClientCertificate = None,
    client_key: options.ClientKey = None,
) -> ServerAccess:
    return ServerAccess(server, api_key, tls, tls_ca, client_certificate, client_key)


#: Gives a command the options that make a ServerAccess, in place of its parameter `access`.
with_access = with_group("access", _server_access)
