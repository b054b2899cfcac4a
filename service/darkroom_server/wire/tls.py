"""The certificates of the service, the same for both ports."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import structlog

from darkroom_server.wire.certificate_dates import NotGood, expiry_s

#: How often it is looked whether the files are others.
WATCH_INTERVAL_S = 2.0

log = structlog.get_logger(__name__)


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

    def written(self) -> tuple[tuple[int, int] | None, ...]:
        """When the files were written and which they are, to see whether they are others."""
        return tuple(map(_written, filter(None, (self.certificate, self.key, self.client_ca))))

    def read(self) -> Pems:
        """What is in them; raises TlsError as `check` does."""
        self.check()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            pems = self._pems(context)
            context.load_cert_chain(self.certificate, self.key, password="")
            is_same = self._pems(context) == pems
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"{self.certificate}, {self.key}: {error.strerror}") from None
        if not is_same:
            raise TlsError(f"{self.certificate} and {self.key} changed while they were read")
        return pems

    def _pems(self, context: ssl.SSLContext) -> Pems:
        client_ca = None if self.client_ca is None else self.client_ca.read_bytes()
        return Pems(self.certificate.read_bytes(), self.key.read_bytes(), client_ca, context)


def _written(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


@dataclass(frozen=True, slots=True)
class Pems:
    """Certificate and key that fit together, and the same as a context of a server."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class Certificates:
    """Those that connections are begun with from now on. What runs keeps what it began with."""

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files; raises TlsError. What clients are going to refuse is logged."""
        self._files = files
        #: To be asked for at each handshake, of any thread.
        self.current = files.read()
        try:
            expiry_s(files.certificate, files.key)
        except NotGood as error:
            log.error("clients refuse the certificate; put a new one there", problem=str(error))

    @property
    def asks_clients(self) -> bool:
        """Whether gRPC clients have to show a certificate."""
        return self._files.client_ca is not None

    def server_context(self) -> ssl.SSLContext:
        """A context whose handshakes are those of `current`."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # Without a certificate of its own it would refuse before it asks which to use.
        context.load_cert_chain(self._files.certificate, self._files.key, password="")
        context.sni_callback = self._choose
        return context

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _of: ssl.SSLContext) -> None:
        connection.context = self.current.context

    async def watch(self) -> None:
        """Reads the files again whenever they are others, as where a secret is mounted."""
        known = self._files.written()
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if (written := self._files.written()) != known:
                known = written
                await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Reads the files again; what is wrong with them is logged, and those before stay.

        So it is with a certificate that has expired: clients would refuse it.
        """
        try:
            pems = self._files.read()
            expiry_s(self._files.certificate, self._files.key)
            self.current = pems
        except (TlsError, NotGood) as error:
            log.error("certificates not read again; those before still count", problem=str(error))
        else:
            log.info("certificates read", certificate=str(self._files.certificate))
