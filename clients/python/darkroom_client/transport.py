"""What the transport's messages mean when a connection cannot be made."""

from __future__ import annotations

import enum


class TransportFault(enum.Enum):
    """Why there is no connection; the value says what a caller of this package can do about it."""

    PLAINTEXT_SERVER = "the server speaks no TLS there: leave `credentials` out"
    EXPIRED = "the server's certificate has expired, or a clock is wrong"
    UNKNOWN_CA = (
        "the server's certificate is of no CA that is trusted: name it, "
        "credentials=tls_credentials(ca=...)"
    )
    OTHER_NAME = "the server's certificate is for another name: call it by one that it has"
    HTTP_SERVER = "an HTTP server listens there: call the port of gRPC, 8001 unless set otherwise"
    REFUSED = "nothing listens there: is the server running, and on this port?"
    UNKNOWN_HOST = "no host has that name"
    OWN_FILES = (
        "a file of tls_credentials(...) is not in PEM, or is another than it should be: "
        "ca and certificate are certificates, key is that of certificate"
    )
    CLOSED = (
        "the server closed the connection at once: it may speak TLS, "
        "credentials=tls_credentials(...), or ask for a certificate of the client"
    )


#: Words of gRPC and its TLS, the more specific first.
_SIGNS = (
    ("WRONG_VERSION_NUMBER", TransportFault.PLAINTEXT_SERVER),
    ("certificate has expired", TransportFault.EXPIRED),
    ("certificate is not yet valid", TransportFault.EXPIRED),
    ("CERTIFICATE_VERIFY_FAILED", TransportFault.UNKNOWN_CA),
    ("Failed to create security handshaker", TransportFault.OWN_FILES),
    ("Hostname Verification", TransportFault.OTHER_NAME),
    ("http1.x server", TransportFault.HTTP_SERVER),
    ("Connection refused", TransportFault.REFUSED),
    ("Domain name not found", TransportFault.UNKNOWN_HOST),
    ("Misformatted domain name", TransportFault.UNKNOWN_HOST),
    ("lookup failed", TransportFault.UNKNOWN_HOST),
    ("Socket closed", TransportFault.CLOSED),
    ("Connection reset", TransportFault.CLOSED),
)


def fault_of(message: str) -> TransportFault | None:
    """The fault that a status of the transport stands for; None where it is another, or none."""
    return next((fault for sign, fault in _SIGNS if sign in message), None)
