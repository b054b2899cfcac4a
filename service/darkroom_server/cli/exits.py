"""Exit codes of the commands that talk to a server, and the one line they end with."""

from __future__ import annotations

import contextlib
import enum
import errno
from collections.abc import Iterator

import typer

from darkroom_client import errors
from darkroom_client.status import KEY_ADVICE
from darkroom_client.transport import TransportFault, fault_of
from darkroom_server.parameters.table import PARAMETERS


class ExitCode(enum.IntEnum):
    """What a command's exit code says."""

    OK = 0
    FILE_ERROR = 1
    INVALID_REQUEST = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    DEADLINE = 5
    SERVER_ERROR = 6
    NOT_PERMITTED = 7
    INTERRUPTED = 130


#: For the commands' help.
EXIT_CODES_HELP = (
    "Exit codes: 0 done, 1 a file could not be read or written, 2 wrong usage or invalid request, "
    "3 no such model, 4 server not there, full, or model not available, 5 --timeout passed, "
    "6 server error, 7 not permitted, 130 interrupted."
)

_CODES: dict[type[errors.DarkroomError], ExitCode] = {
    errors.InvalidRequest: ExitCode.INVALID_REQUEST,
    errors.ModelNotFound: ExitCode.NOT_FOUND,
    errors.ModelUnavailable: ExitCode.UNAVAILABLE,
    errors.RetryableError: ExitCode.UNAVAILABLE,
    errors.DeadlineExceeded: ExitCode.DEADLINE,
    errors.Unauthenticated: ExitCode.NOT_PERMITTED,
    errors.PermissionDenied: ExitCode.NOT_PERMITTED,
    errors.InsufficientCredits: ExitCode.NOT_PERMITTED,
    errors.Cancelled: ExitCode.INTERRUPTED,
    errors.ServerError: ExitCode.SERVER_ERROR,
    errors.CorruptImage: ExitCode.SERVER_ERROR,
}


#: What a user wrote for a field of a request.
_OPTIONS = {path: one.flag for path, one in PARAMETERS.items() if one.flag} | {
    "prompt": "PROMPT",
    "image.content": "IMAGE",
    "mask.content": "MASK",
    "name": "MODEL",
    "label": "LABEL",
    "traffic_percent": "--traffic",
    "drain_duration": "--drain",
    "quality": "--quality",
}


def exit_code_of(error: errors.DarkroomError) -> ExitCode:
    """The exit code for an error; SERVER_ERROR for one without its own."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return ExitCode.SERVER_ERROR


def option_of(field: str) -> str:
    """What a user writes for a field of the request; the field itself if there is nothing."""
    return _OPTIONS.get(field, field)


def message_of(error: errors.DarkroomError) -> str:
    """The message for the user: the error, with options in place of the request's fields."""
    if isinstance(error, errors.InvalidRequest) and error.violations:
        lines = (f"{option_of(v.field)}: {v.description}" for v in error.violations)
        return " ".join("; ".join(lines).split())
    if isinstance(error, errors.Unavailable) and not error.reason:
        if (fault := fault_of(str(error))) is not None:
            return f"{str(error).partition(' is not available')[0]}: {_FAULTS[fault]}"
        return f"{error}; is the server running there?"
    if isinstance(error, errors.Unauthenticated):
        text = str(error).partition(KEY_ADVICE)[0]
        return f"{text}; give a key with --api-key or DARKROOM_API_KEY"
    return str(error)


#: What a user can do where there is no connection.
_FAULTS = {
    TransportFault.PLAINTEXT_SERVER: "the server speaks no TLS there; leave out --tls and --tls-ca",
    TransportFault.EXPIRED: "the server's certificate has expired, or a clock is wrong",
    TransportFault.UNKNOWN_CA: "the server's certificate is of no CA that is trusted; name it with "
    "--tls-ca",
    TransportFault.OTHER_NAME: "the server's certificate is for another name; give --server as one "
    "that it has",
    TransportFault.HTTP_SERVER: "an HTTP server listens there; give the port of gRPC, 8001 unless "
    "set otherwise",
    TransportFault.REFUSED: "nothing listens there; is the server running, and on this port? "
    "`darkroom serve` starts one, --server names another",
    TransportFault.UNKNOWN_HOST: "no host has that name; --server takes HOST:PORT",
    TransportFault.OWN_FILES: "a file of --tls-ca, --client-certificate or --client-key is not in "
    "PEM, or is another than it should be; the key is that of the certificate",
    TransportFault.CLOSED: "the server closed the connection at once; if it speaks TLS, give --tls "
    "or --tls-ca, and --client-certificate and --client-key if it asks for a certificate",
}

#: What helps where a file could not be written.
_ADVICE = {
    errno.ENOSPC: "make room there, or write elsewhere",
    errno.EDQUOT: "make room there, or write elsewhere",
    errno.EROFS: "write elsewhere",
}


def file_problem(error: OSError, otherwise: str = "") -> str:
    """Which file, what is wrong with it and what helps; `otherwise` is it where none is named."""
    parts = (error.filename or otherwise, error.strerror or str(error))
    advice = _ADVICE.get(error.errno or 0)
    return ": ".join(str(part) for part in parts if part) + (f"; {advice}" if advice else "")


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a command fails of into one line on stderr and an exit code."""
    try:
        yield
    except errors.DarkroomError as error:
        raise _failed(message_of(error), exit_code_of(error)) from None
    except OSError as error:
        raise _failed(file_problem(error), ExitCode.FILE_ERROR) from None
    except KeyboardInterrupt:
        raise _failed("interrupted", ExitCode.INTERRUPTED) from None


def _failed(message: str, code: ExitCode) -> typer.Exit:
    typer.echo(f"darkroom: {message}", err=True)
    return typer.Exit(code)
