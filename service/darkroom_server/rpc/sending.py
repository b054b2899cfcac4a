"""Answers on their way out: who does not read its own is given up. Bound to the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import aio

from darkroom_server.domain.errors import ResultsUnread

_Context = aio.ServicerContext[Any, Any]

#: Calls of a connection that were given up. Their status waits behind what is not read, and gRPC
#: holds some of it, for as long as the connection stays.
MAX_UNREAD_CALLS = 16


class Sending:
    """Sends the messages of all calls, each within `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._unread: Counter[str] = Counter()

    async def send(self, message: Any, context: _Context) -> None:
        """Returns when gRPC has room for more of the call; raises ResultsUnread."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await context.write(message)
        except TimeoutError:
            raise ResultsUnread(
                f"Nothing of the answer was read for {self._timeout_s:g} s."
            ) from None

    @contextmanager
    def to(self, context: _Context) -> Iterator[None]:
        """A call to whose caller the block sends.

        Raises ResultsUnread at once where the connection has left too many answers unread.
        """
        connection = context.peer()
        if self._unread[connection] >= MAX_UNREAD_CALLS:
            raise ResultsUnread(f"{MAX_UNREAD_CALLS} answers on this connection wait to be read.")
        try:
            yield
        except ResultsUnread:
            self._unread[connection] += 1
            done: Any = functools.partial(self._read, connection)
            context.add_done_callback(done)
            raise

    def _read(self, connection: str, _context: _Context) -> None:
        """The caller has read the answer after all, or left."""
        self._unread[connection] -= 1
        if not self._unread[connection]:
            del self._unread[connection]
