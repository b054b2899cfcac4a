"""Packed Connect requests: left packed by what the library calls, unpacked up to a bound."""

from __future__ import annotations

import gzip

import pytest

from darkroom_server.domain.errors import DarkroomError, InvalidParameter, RequestTooLarge
from darkroom_server.gateway import connect_gzip
from darkroom_server.gateway.connect_gzip import LateGzip, Packed

MEMBER = gzip.compress(b"0123456789")


def test_the_library_unpacks_nothing() -> None:
    packer = LateGzip()
    left = packer.decompress(MEMBER, 10)
    assert isinstance(left, Packed)
    assert left == MEMBER
    assert left.unpacked() == b"0123456789"
    assert packer.decompress(b"", 10) == b""


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(MEMBER + gzip.compress(b""), InvalidParameter, id="another-member"),
        pytest.param(MEMBER + b"\0", InvalidParameter, id="more"),
        pytest.param(MEMBER[:-1], InvalidParameter, id="cut-off"),
        pytest.param(b"0123456789", InvalidParameter, id="no-gzip"),
        pytest.param(gzip.compress(bytes(11 << 20)), RequestTooLarge, id="a-bomb"),
    ],
)
def test_everything_else_is_refused(data: bytes, error: type[DarkroomError]) -> None:
    with pytest.raises(error):
        Packed(data).unpacked()


def test_what_is_small_may_be_packed_as_well_as_it_can() -> None:
    content = bytes(connect_gzip.FREE_BYTES)
    assert Packed(gzip.compress(content)).unpacked() == content


def test_no_body_is_larger_for_having_been_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect_gzip, "MAX_BODY_BYTES", 9)
    with pytest.raises(RequestTooLarge, match="more than 9 bytes"):
        Packed(MEMBER).unpacked()
