"""The certificates of the service, the same for both ports."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


class TlsError(Exception):
    """Certificates that cannot be used; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the certificate with its chain, its key, and the CA of the clients' certificates.

    With `client_ca` gRPC takes only clients that show a certificate of it; HTTP takes all.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Raises TlsError where TLS would fail later, or only when somebody calls."""
        for file in filter(None, (self.certificate, self.key, self.client_ca)):
            try:
                file.open("rb").close()
            except OSError as error:
                raise TlsError(f"{file}: {error.strerror}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key that needs a password would otherwise be asked for at the terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as error:
            raise TlsError(
                f"{self.certificate} and {self.key} are no certificate and its key: {error.reason}"
            ) from None
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except ssl.SSLError as error:
                raise TlsError(f"{self.client_ca} is no CA certificate: {error.reason}") from None
