"""A network between callers and the server that can be cut, or stand still."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator


class Link:
    """Carries connections to an address; belongs to the event loop."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        #: Where callers connect.
        self.address = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways."""
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, onwards = await asyncio.open_connection(*self._target)
            self._writers |= {writer, onwards}
            ways = [self._pump(reader, onwards), self._pump(there, writer)]
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while content := await reader.read(1 << 16):
                await self._flows.wait()
                writer.write(content)
                await writer.drain()
        finally:
            writer.close()
            self._writers.discard(writer)

    def cut(self) -> int:
        """Ends all connections at once, without a goodbye; how many there were."""
        writers, self._writers = self._writers, set()
        for one in writers:
            one.transport.abort()
        return len(writers)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Nothing comes through, and nobody is told."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()


@contextlib.asynccontextmanager
async def linked(target: str) -> AsyncIterator[Link]:
    """A link to an address, on a port of its own."""
    link = Link(target)
    server = await asyncio.start_server(link.carry, "127.0.0.1", 0)
    link.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield link
    finally:
        server.close()
        link.cut()
