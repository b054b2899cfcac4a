"""How the commands that talk to a server reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from darkroom_client import Client, tls_credentials


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
