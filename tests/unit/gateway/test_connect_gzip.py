"""Packed Connect requests: one gzip member, unpacked up to the limit."""

from __future__ import annotations

import gzip

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from darkroom_server.gateway.connect_gzip import OneMemberGzip

MEMBER = gzip.compress(b"0123456789")


def test_what_was_packed_is_unpacked() -> None:
    packer = OneMemberGzip()
    assert packer.decompress(packer.compress(b"0123456789"), 10) == b"0123456789"
    assert packer.decompress(MEMBER) == b"0123456789"
    assert packer.decompress(b"", 10) == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(MEMBER + gzip.compress(b""), Code.INVALID_ARGUMENT, id="another-member"),
        pytest.param(MEMBER + b"\0", Code.INVALID_ARGUMENT, id="more"),
        pytest.param(MEMBER[:-1], Code.INVALID_ARGUMENT, id="cut-off"),
        pytest.param(b"0123456789", Code.INVALID_ARGUMENT, id="no-gzip"),
        pytest.param(gzip.compress(bytes(11)), Code.RESOURCE_EXHAUSTED, id="too-large"),
    ],
)
def test_everything_else_is_refused(data: bytes, code: Code) -> None:
    with pytest.raises(ConnectError) as caught:
        OneMemberGzip().decompress(data, 10)
    assert caught.value.code is code
