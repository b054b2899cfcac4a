"""Files beyond the local disk, wherever fsspec reaches: what is there, and its bytes. Blocking.

Credentials and addresses of stores come from where their libraries look for them: `AWS_…`
variables and files, Google's default credentials, `FSSPEC_…` variables.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec

from darkroom_server.domain.problems import printable

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
#: What stores say of a file's content, the best first.
_CHECKSUMS = ("md5Hash", "content_md5", "ETag", "etag", "crc32c")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
#: Errors of the stores' libraries, which have no root in common, by module.
_LIBRARY_ERRORS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "aiohttp": ("ClientError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "gcsfs.retry": ("HttpError",),
}


def is_url(location: str) -> bool:
    """Whether a repository is named by a URL, and not by a folder."""
    return _URL.match(location) is not None


class RemoteError(Exception):
    """A store does not give what is asked of it; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a store, by its name below the URL.

    Files with equal `key` have equal content: it is made of the size and of the store's checksum,
    or where it has none of the file's name and times. `changed_at_s` is the store's clock.
    """

    name: str
    size_bytes: int
    key: str
    changed_at_s: float | None


class RemoteStore:
    """What lies below a URL. Methods may be called from any thread and raise RemoteError."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            # Nothing is remembered: neither listings, nor an earlier server's credentials.
            self._files, self._root = fsspec.url_to_fs(
                self._url, use_listings_cache=False, skip_instance_cache=True
            )
        except ImportError as error:
            protocol = url.partition(":")[0]
            extra = {"s3": "[s3]", "s3a": "[s3]", "gs": "[gcs]", "gcs": "[gcs]"}.get(protocol, "")
            advice = f"pip install 'darkroom-server{extra}'" if extra else str(error)
            raise RemoteError(f"{protocol}:// needs a package that is absent: {advice}") from error
        except ValueError as error:
            raise RemoteError(f"{url}: {printable(str(error))}") from error

    def list(self) -> dict[str, RemoteFile]:
        """Every file by its name below the URL. Raises RemoteError."""
        with self._explained():
            found = self._files.find(self._root, detail=True)
        if not found:
            raise RemoteError(
                f"{self._url} holds nothing: no such bucket or folder, or an empty one"
            )
        prefix = self._root.rstrip("/") + "/"
        files = (self._file(path.removeprefix(prefix), about) for path, about in found.items())
        return {one.name: one for one in files}

    def look(self, name: str) -> RemoteFile:
        """One file as it is now; raises RemoteError."""
        with self._explained():
            return self._file(name, self._files.info(f"{self._root}/{name}"))

    def read(self, name: str, begin: int, end: int) -> bytes:
        """Bytes of a file from `begin` to `end`, fewer where it ends before; raises RemoteError."""
        with self._explained():
            content: bytes = self._files.cat_file(f"{self._root}/{name}", start=begin, end=end)
        return content

    def _file(self, name: str, about: Mapping[str, Any]) -> RemoteFile:
        size_bytes = int(about["size"] or 0)
        checksum = next((f"{key} {about[key]}" for key in _CHECKSUMS if about.get(key)), None)
        times_s = [_seconds(about[key]) for key in _TIMES if about.get(key)]
        stamp = checksum or f"{name} {times_s} {about.get('ino')}"
        return RemoteFile(
            name=name,
            size_bytes=size_bytes,
            key=hashlib.sha256(f"{size_bytes} {stamp}".encode()).hexdigest(),
            changed_at_s=times_s[0] if times_s else None,
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except _store_errors() as error:
            raise RemoteError(_explanation(error, self._url)) from error


def _store_errors() -> tuple[type[Exception], ...]:
    of_libraries: list[type[Exception]] = [
        getattr(sys.modules[module], name)
        for module, names in _LIBRARY_ERRORS.items()
        if module in sys.modules
        for name in names
    ]
    return (OSError, ValueError, RuntimeError, *of_libraries)


def _seconds(time: object) -> float | None:
    match time:
        case datetime():
            return time.timestamp()
        case int() | float():
            return float(time)
        case str():
            try:
                return datetime.fromisoformat(time).timestamp()
            except ValueError:
                return None
    return None


def _explanation(error: Exception, url: str) -> str:
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"{url} is not there: no such bucket, folder or file"
    if isinstance(error, PermissionError):
        return f"{url}: access is refused; do the credentials have the right to list and to read?"
    if "Credential" in kind or "Token" in kind or "Auth" in kind or kind == "ProfileNotFound":
        return f"{url}: no usable credentials were found ({kind}); give them as its library wants"
    if isinstance(error, ConnectionError | TimeoutError) or "Connect" in kind or "Timeout" in kind:
        return f"{url} cannot be reached ({kind})"
    return f"{url}: {kind}: {printable(str(error))}"
