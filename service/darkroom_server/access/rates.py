"""How many requests a key may make in a time; `limits` reads how that is written."""

from __future__ import annotations

from dataclasses import dataclass

import limits
from redis.exceptions import RedisError

from darkroom_server.access.windows import MemoryWindows, RedisWindows, Window, Windows
from darkroom_server.domain.errors import LimitsUnavailable, RateLimited
from darkroom_server.domain.keys import ApiKey

#: Retry delay sent to a caller when the counters cannot be reached.
UNAVAILABLE_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStanding:
    """How a key stands with the limit that it is nearest to."""

    limit_count: int
    window_s: int
    remaining_count: int
    reset_s: float


class Rates:
    """Counts requests over moving windows. Belongs to one event loop."""

    def __init__(self, redis_url: str | None, windows: Windows | None = None) -> None:
        """Counts in Redis where an address is given, else in this process."""
        self._windows: Windows = windows or (
            MemoryWindows() if redis_url is None else RedisWindows(redis_url)
        )

    async def count(self, key: ApiKey) -> RateStanding | None:
        """Counts a request of the key; raises RateLimited, LimitsUnavailable."""
        found = []
        try:
            for item in _items(key):
                window = await self._windows.hit(*_named(item, key))
                if not window.is_let_in:
                    raise RateLimited(
                        f"This key may make {_spelt(item)}.",
                        key_id=key.id,
                        retry_after_s=window.reset_s,
                    )
                found.append(_standing(item, window))
        except (RedisError, OSError) as error:
            raise limits_unavailable() from error
        return _nearest(found)

    async def standing(self, key: ApiKey) -> RateStanding | None:
        """How the key stands; counts nothing. Raises LimitsUnavailable."""
        try:
            found = [
                _standing(item, await self._windows.look(*_named(item, key)))
                for item in _items(key)
            ]
        except (RedisError, OSError) as error:
            raise limits_unavailable() from error
        return _nearest(found)


def limits_unavailable() -> LimitsUnavailable:
    """The answer while the counters cannot be reached: nothing runs uncounted."""
    return LimitsUnavailable(
        "Limits and credits cannot be looked up now.", retry_after_s=UNAVAILABLE_RETRY_S
    )


def _items(key: ApiKey) -> list[limits.RateLimitItem]:
    """The key's limits, the shortest first: what that refuses does not use up the others."""
    if key.rate_limit is None:
        return []
    return sorted(limits.parse_many(key.rate_limit), key=lambda item: item.get_expiry())


def _named(item: limits.RateLimitItem, key: ApiKey) -> tuple[str, int, int]:
    """The window of a limit: its name, how many, and how long it is."""
    window_s = item.get_expiry()
    return f"{key.id}:{item.amount}:{window_s}", item.amount, window_s


def _standing(item: limits.RateLimitItem, window: Window) -> RateStanding:
    return RateStanding(
        limit_count=item.amount,
        window_s=item.get_expiry(),
        remaining_count=max(0, item.amount - window.count),
        reset_s=max(0.0, window.reset_s),
    )


def _nearest(found: list[RateStanding]) -> RateStanding | None:
    return min(found, key=lambda one: one.remaining_count / one.limit_count, default=None)


def _spelt(item: limits.RateLimitItem) -> str:
    """Such as `60 requests in 1 minute`."""
    requests = "request" if item.amount == 1 else "requests"
    unit = item.GRANULARITY.name + ("" if item.multiples == 1 else "s")
    return f"{item.amount} {requests} in {item.multiples} {unit}"
