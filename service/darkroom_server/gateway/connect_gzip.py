"""Gzip as Connect's clients send it, which the Python client does by default."""

from __future__ import annotations

import zlib

from connectrpc.compression.gzip import GzipCompression

from darkroom_server.domain.errors import InvalidParameter, RequestTooLarge
from darkroom_server.gateway.bodies import MAX_BODY_BYTES

_GZIP_WINDOW_BITS = 31
#: What everything may unpack to, however small it is packed; beyond it, a hundredfold at most:
#: images are packed already, and a bomb is what is left.
FREE_BYTES = 1 << 20
MAX_RATIO = 100


class Packed(bytes):
    """A packed body, which its reader unpacks."""

    __slots__ = ()

    def unpacked(self) -> bytes:
        """The content, of one member with nothing after it; CPU-bound.

        A body may be a row of empty members by the million. Raises InvalidParameter,
        RequestTooLarge.
        """
        limit_bytes = min(MAX_BODY_BYTES, max(FREE_BYTES, MAX_RATIO * len(self)))
        inflater = zlib.decompressobj(_GZIP_WINDOW_BITS)
        try:
            content = inflater.decompress(self, limit_bytes + 1)
        except zlib.error as error:
            raise InvalidParameter("request", "the body is no gzip") from error
        if len(content) > limit_bytes:
            text = f"the body has more than {limit_bytes} bytes when it is unpacked"
            raise RequestTooLarge(text)
        if not inflater.eof or inflater.unused_data:
            raise InvalidParameter("request", "the body is not one whole gzip member")
        return content


class LateGzip(GzipCompression):
    """Leaves bodies packed: the library would unpack them on the event loop."""

    def decompress(
        self,
        data: bytes | bytearray | memoryview,
        read_max_bytes: int | None = None,  # noqa: ARG002 - the packed bytes have been counted
    ) -> bytes:
        """The body, still packed."""
        return Packed(data) if data else b""
