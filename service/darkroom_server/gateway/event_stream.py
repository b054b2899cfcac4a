"""Server-sent events as an HTTP answer."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class EventStream(StreamingResponse):
    """An event stream that releases what makes its events as soon as its reader has gone."""

    def __init__(
        self, events: AsyncGenerator[str, None], headers: Mapping[str, str] | None = None
    ) -> None:
        self._events = events
        own = {
            "cache-control": "no-store",
            # A proxy that collects the answer would deliver the progress when it is over.
            "x-accel-buffering": "no",
        }
        super().__init__(events, media_type="text/event-stream", headers=own | dict(headers or {}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events until they end or the connection does."""
        async with aclosing(self._events):
            await super().__call__(scope, receive, send)


def event_text(name: str, data: Mapping[str, Any]) -> str:
    """One event on the wire."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
