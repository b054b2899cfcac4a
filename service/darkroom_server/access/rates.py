"""How many requests a key may make in a time: counted by `limits`, here or in Redis."""

from __future__ import annotations

import time
from dataclasses import dataclass

import limits
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from darkroom_server.domain.errors import LimitsUnavailable, RateLimited
from darkroom_server.domain.keys import ApiKey

#: What a caller is told to wait when the counters cannot be reached.
UNAVAILABLE_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStanding:
    """How a key stands with the limit that it is nearest to."""

    limit_count: int
    window_s: int
    remaining_count: int
    reset_s: float


class Rates:
    """Counts requests over a moving window. Belongs to one event loop."""

    def __init__(self, redis_url: str | None) -> None:
        """Counts in Redis where an address is given, else in this process."""
        storage = (
            MemoryStorage()
            if redis_url is None
            else RedisStorage(
                f"async+{redis_url}",
                wrap_exceptions=True,
                implementation="redispy",
                key_prefix="darkroom:rate",
            )
        )
        self._limiter = MovingWindowRateLimiter(storage)

    async def count(self, key: ApiKey) -> RateStanding | None:
        """Counts a request of the key; raises RateLimited, LimitsUnavailable."""
        try:
            for item in _items(key):
                if not await self._limiter.hit(item, key.id):
                    standing = await self._standing(item, key)
                    raise RateLimited(
                        f"This key may make {_spelt(item)}.",
                        key_id=key.id,
                        retry_after_s=standing.reset_s,
                    )
            return await self._nearest(key)
        except StorageError as error:
            raise limits_unavailable() from error

    async def standing(self, key: ApiKey) -> RateStanding | None:
        """How the key stands; counts nothing. Raises LimitsUnavailable."""
        try:
            return await self._nearest(key)
        except StorageError as error:
            raise limits_unavailable() from error

    async def _nearest(self, key: ApiKey) -> RateStanding | None:
        found = [await self._standing(item, key) for item in _items(key)]
        return min(found, key=lambda one: one.remaining_count / one.limit_count, default=None)

    async def _standing(self, item: limits.RateLimitItem, key: ApiKey) -> RateStanding:
        window = await self._limiter.get_window_stats(item, key.id)
        return RateStanding(
            limit_count=item.amount,
            window_s=item.get_expiry(),
            remaining_count=max(0, window.remaining),
            reset_s=max(0.0, window.reset_time - time.time()),
        )


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


def _spelt(item: limits.RateLimitItem) -> str:
    """Such as `60 requests in 1 minute`."""
    requests = "request" if item.amount == 1 else "requests"
    unit = item.GRANULARITY.name + ("" if item.multiples == 1 else "s")
    return f"{item.amount} {requests} in {item.multiples} {unit}"
