"""Base64 as callers write it, also at its worst."""

from __future__ import annotations

import base64
import tracemalloc

import pytest

from darkroom_server.gateway.base64_text import base64_bytes

CONTENT = bytes(range(256)) + b"\xfb\xff\xbe"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(base64.b64encode(CONTENT).decode(), id="standard"),
        pytest.param(base64.urlsafe_b64encode(CONTENT).decode(), id="url-safe"),
        pytest.param(base64.b64encode(CONTENT).decode().rstrip("="), id="unpadded"),
        pytest.param(base64.encodebytes(CONTENT).decode(), id="lines"),
        pytest.param("\r\n\t ".join(base64.b64encode(CONTENT).decode()), id="crumbs"),
    ],
)
def test_every_way_to_write_it_is_read(text: str) -> None:
    assert base64_bytes(text) == CONTENT


@pytest.mark.parametrize("text", ["a", "a*b=", "YQ==YQ==", "ä", "\u00a0YQ==", "Y=Q="])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of the codec or of base64
        base64_bytes(text)


@pytest.mark.parametrize("piece", ["A\n", "-\n", " ", "AA\r\n"])
def test_crumbs_take_no_more_memory_than_the_text(piece: str) -> None:
    text = piece * (1 << 18)
    tracemalloc.start()
    try:
        base64_bytes(text)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * len(text)
