"""Until when a server's certificate is good, by a handshake in memory: nothing is sent anywhere."""

from __future__ import annotations

import ssl
from pathlib import Path


class NotGood(Exception):
    """A certificate that a client would not take now; the message says why."""


#: More turns than any handshake takes.
_TURNS = 10


def expiry_s(certificate: Path, key: Path) -> float:
    """When it ends, in Unix time; raises NotGood for one that is not good now."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate, key, password="")
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    # It is its own authority here: only its dates are asked for.
    client_context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    client_context.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_TURNS):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise NotGood(f"{certificate}: {error.verify_message}") from None
        if (found := client.getpeercert() if client.version() else None) is not None:
            return ssl.cert_time_to_seconds(str(found["notAfter"]))
    raise NotGood(f"{certificate}: no handshake came about with it")
