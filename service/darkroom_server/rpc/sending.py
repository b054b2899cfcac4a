"""Answers on their way out: who does not read its own is given up. Bound to the event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc import aio

from darkroom_server.domain.errors import ResultsUnread

_Context = aio.ServicerContext[Any, Any]


class Sending:
    """Sends the messages of all calls, each within `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s

    async def send(self, message: Any, context: _Context) -> None:
        """Returns when gRPC has room for more of the call; raises ResultsUnread."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await context.write(message)
        except TimeoutError:
            raise ResultsUnread(
                f"Nothing of the answer was read for {self._timeout_s:g} s."
            ) from None
