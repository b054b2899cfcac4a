"""Gzip as Connect's clients send it, which the Python one does unless it is told otherwise."""

from __future__ import annotations

import zlib

from connectrpc.code import Code
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError

from darkroom_server.gateway.bodies import MAX_BODY_BYTES

_GZIP_WINDOW_BITS = 31


class OneMemberGzip(GzipCompression):
    """Takes one member and nothing after it.

    A body may be a row of empty members by the million, and the library copies what is left of it
    for each, on the event loop.
    """

    def decompress(
        self, data: bytes | bytearray | memoryview, read_max_bytes: int | None = None
    ) -> bytes:
        """The content; raises ConnectError."""
        if not data:
            return b""
        limit_bytes = MAX_BODY_BYTES if read_max_bytes is None else read_max_bytes
        inflater = zlib.decompressobj(_GZIP_WINDOW_BITS)
        try:
            content = inflater.decompress(data, limit_bytes + 1)
        except zlib.error as error:
            raise ConnectError(Code.INVALID_ARGUMENT, "the body is no gzip") from error
        if len(content) > limit_bytes:
            text = f"the body has more than {limit_bytes} bytes when it is unpacked"
            raise ConnectError(Code.RESOURCE_EXHAUSTED, text)
        if not inflater.eof or inflater.unused_data:
            raise ConnectError(Code.INVALID_ARGUMENT, "the body is not one whole gzip member")
        return content
