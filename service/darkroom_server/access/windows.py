"""Requests within a sliding window, counted in this process or in Redis. Bound to the event
loop.

Both count by a clock that does not change when the computer's time is set: this process' monotonic
one, and that of Redis, which is the same for all servers.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redis.asyncio import Redis

_TIMEOUT_S = 5.0

#: Counts a request if fewer than the limit are in the window. KEYS: the window. ARGV: how many,
#: seconds, and 0 to look only. Returns whether it was let in, how many are in the window then, and
#: the seconds until the oldest of them leaves it, as text. A list, newest first.
_HIT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local oldest = redis.call('LINDEX', KEYS[1], -1)
while oldest and (tonumber(oldest) <= now - window or tonumber(oldest) > now) do
    redis.call('RPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], -1)
end
local allowed = 0
if ARGV[3] == '1' and redis.call('LLEN', KEYS[1]) < limit then
    redis.call('LPUSH', KEYS[1], string.format('%.6f', now))
    redis.call('EXPIRE', KEYS[1], window)
    oldest = redis.call('LINDEX', KEYS[1], -1)
    allowed = 1
end
local left = 0
if oldest then left = tonumber(oldest) + window - now end
return {allowed, redis.call('LLEN', KEYS[1]), tostring(left)}
"""


@dataclass(frozen=True, slots=True)
class Window:
    """How many requests are in a window, and when the oldest of them leaves it."""

    is_let_in: bool
    count: int
    reset_s: float


class Windows(Protocol):
    """Windows by name."""

    async def hit(self, name: str, limit_count: int, window_s: int) -> Window:
        """Puts a request into a window that has room for it."""

    async def look(self, name: str, limit_count: int, window_s: int) -> Window:
        """The window as it is."""


class MemoryWindows:
    """Windows in this process. `now` is a monotonic clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._hits_s: defaultdict[str, deque[float]] = defaultdict(deque)

    async def hit(self, name: str, limit_count: int, window_s: int) -> Window:
        """Puts a request into a window that has room for it."""
        return self._window(name, limit_count, window_s, is_asking=True)

    async def look(self, name: str, limit_count: int, window_s: int) -> Window:
        """The window as it is."""
        return self._window(name, limit_count, window_s, is_asking=False)

    def _window(self, name: str, limit_count: int, window_s: int, *, is_asking: bool) -> Window:
        now_s, hits_s = self._now(), self._hits_s[name]
        while hits_s and hits_s[0] <= now_s - window_s:
            hits_s.popleft()
        is_let_in = is_asking and len(hits_s) < limit_count
        if is_let_in:
            hits_s.append(now_s)
        reset_s = hits_s[0] + window_s - now_s if hits_s else 0.0
        return Window(is_let_in, len(hits_s), reset_s)


class RedisWindows:
    """Windows that several servers share. Raises RedisError and OSError while Redis is away."""

    def __init__(self, url: str) -> None:
        redis: Redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        self._script = redis.register_script(_HIT)

    async def hit(self, name: str, limit_count: int, window_s: int) -> Window:
        """Puts a request into a window that has room for it."""
        return await self._run(name, limit_count, window_s, 1)

    async def look(self, name: str, limit_count: int, window_s: int) -> Window:
        """The window as it is."""
        return await self._run(name, limit_count, window_s, 0)

    async def _run(self, name: str, limit_count: int, window_s: int, asking: int) -> Window:
        found = await self._script(
            keys=[f"darkroom:rate:{name}"], args=[limit_count, window_s, asking]
        )
        return Window(bool(found[0]), int(found[1]), float(found[2]))
