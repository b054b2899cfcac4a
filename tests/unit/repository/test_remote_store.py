"""What stores say, in Darkroom's words. tests/integration/models has a real one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import botocore.exceptions
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from darkroom_server.repository.remote_store import RemoteError, RemoteStore, is_url


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("s3://bucket/models", True),
        ("memory://x", True),
        ("abfs+x://x", True),
        ("model_repo", False),
        ("/srv/models", False),
        ("C:\\models", False),
        ("./s3://x", False),
    ],
)
def test_urls_are_told_from_folders(location: str, *, expected: bool) -> None:
    assert is_url(location) is expected


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("no"), "is not there"),
        (PermissionError("Forbidden"), "access is refused"),
        (botocore.exceptions.NoCredentialsError(), "no usable credentials"),
        (botocore.exceptions.ProfileNotFound(profile="x"), "no usable credentials"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), "cannot be reached"),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), "cannot be reached"),
        (TimeoutError(), "cannot be reached"),
        (ConnectionResetError(), "cannot be reached"),
        (OSError(22, "Bad \x1b[31m bucket"), "OSError: [Errno 22] Bad \\x1b[31m bucket"),
        (ValueError("odd"), "ValueError: odd"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_failure_is_one_line_that_names_the_place(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    store = RemoteStore("memory://bucket/models")
    monkeypatch.setattr(MemoryFileSystem, "find", failing)
    with pytest.raises(RemoteError) as raised:
        store.list()
    assert message in str(raised.value)
    assert "memory://bucket/models" in str(raised.value)
    assert "\n" not in str(raised.value)


def listed(monkeypatch: pytest.MonkeyPatch, **about: Any) -> tuple[str, float | None]:
    found = {"/bucket/models/a/1/x": {"name": "x", "type": "file"} | about}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda *_, **__: found)
    [file] = RemoteStore("memory://bucket/models").list().values()
    assert file.name == "a/1/x"
    return file.key, file.changed_at_s


def test_a_checksum_tells_contents_apart_and_times_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = listed(
        monkeypatch, size=3, ETag='"abc"', LastModified=datetime(2026, 1, 1, tzinfo=UTC)
    )
    later, at_s = listed(
        monkeypatch, size=3, ETag='"abc"', LastModified=datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert first == later
    assert at_s == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
    assert listed(monkeypatch, size=3, ETag='"abd"')[0] != first
    assert listed(monkeypatch, size=4, ETag='"abc"')[0] != first


def test_without_a_checksum_times_tell_contents_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    first, at_s = listed(monkeypatch, size=3, mtime=5.0, ino=1)
    assert at_s == 5.0
    assert listed(monkeypatch, size=3, mtime=6.0, ino=1)[0] != first
    assert listed(monkeypatch, size=3, mtime=5.0, ino=2)[0] != first
    assert listed(monkeypatch, size=3, updated="2026-01-01T00:00:00Z")[1] is not None
    assert listed(monkeypatch, size=3, updated="yesterday")[1] is None


def test_a_url_of_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(RemoteError, match="Protocol not known: nope"):
        RemoteStore("nope://bucket")
