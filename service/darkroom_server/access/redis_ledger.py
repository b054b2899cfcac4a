"""The ledger that several servers share, in Redis. Bound to one event loop.

An account is a hash: `spent`, and for each request that runs `r:ID` with its pixel-steps and when
they expire. A server keeps renewing those of its own requests, so that what a dead one held is
free again after `LEASE_S`. The decisions are those of `Account`, on what was read, in a transaction
that is tried again when another server was faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, WatchError

from darkroom_server.access.account import Account, Balance, Reservation
from darkroom_server.access.rates import limits_unavailable
from darkroom_server.background import begin, keep_going
from darkroom_server.domain.keys import ApiKey

LEASE_S = 60.0
RENEW_INTERVAL_S = 15.0
#: How long what expired is kept, so that a server that only stalled can settle it still.
FORGET_S = 86_400.0
_TIMEOUT_S = 5.0
_SETTLE_RETRY_S = 1.0
#: How long a server that stops tries to settle what is left.
_CLOSE_S = 5.0
_SPENT, _REQUEST = "spent", "r:"

_Change: TypeAlias = Callable[[Account, float], Account]

log = structlog.get_logger(__name__)


class RedisLedger:
    """Accounts in Redis."""

    def __init__(self, url: str) -> None:
        self._redis = _connected(url)
        #: Requests that this server runs, by key id.
        self._held: defaultdict[str, set[str]] = defaultdict(set)
        #: Those of one server wait for each other instead of trying again.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settling: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        # Tasks end by these, not by being cancelled: what redis raises on the way out of a
        # transaction would take the cancellation's place.
        self._lets_expire = asyncio.Event()
        self._gives_up = asyncio.Event()

    async def reserve(self, key: ApiKey, request_id: str, pixel_steps: int) -> Balance:
        """Holds pixel-steps for a request."""
        if self._renewing is None:
            self._renewing = keep_going("renewal of credits", self._renew)
        self._held[key.id].add(request_id)
        balance: Balance | None = None

        def change(account: Account, now_s: float) -> Account:
            nonlocal balance
            wanted = Reservation(pixel_steps, now_s + LEASE_S)
            changed = account.reserve(key, request_id, wanted, now_s)
            balance = changed.balance(key, now_s)
            return changed

        is_held = False
        try:
            await self._change(key.id, change)
            is_held = True
        except (RedisError, OSError) as error:
            raise limits_unavailable() from error
        finally:
            if not is_held:
                # It may have been written for all that, and only the answer be lost.
                self.settle(key.id, request_id, 0)
        assert balance is not None
        return balance

    def settle(self, key_id: str, request_id: str, used: int) -> None:
        """Ends a reservation, soon; while Redis is away it is tried again."""
        self._held[key_id].discard(request_id)
        task = begin("settling of credits", self._settle(key_id, request_id, used))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def balance(self, key: ApiKey) -> Balance:
        """How the key stands."""
        try:
            account, now_s = _account(await self._redis.hgetall(_name(key.id))), await self._now_s()
        except (RedisError, OSError) as error:
            raise limits_unavailable() from error
        return account.balance(key, now_s)

    @property
    def settling_count(self) -> int:
        """Requests that have ended and are not settled yet."""
        return len(self._settling)

    def stop_renewing(self) -> None:
        """Lets what is held expire."""
        self._lets_expire.set()

    async def close(self) -> None:
        """Settles what is left and disconnects."""
        self.stop_renewing()
        if self._renewing is not None:
            await self._renewing
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=_CLOSE_S)
            if late:
                log.error("credits not settled", count=len(late))
                self._gives_up.set()
                await asyncio.wait(late)
        await self._redis.aclose()

    async def _settle(self, key_id: str, request_id: str, used: int) -> None:
        while not self._gives_up.is_set():
            try:
                await self._change(key_id, lambda account, _: account.settle(request_id, used))
                return
            except (RedisError, OSError) as error:
                log.warning("credits not settled yet", problem=str(error))
                await _within(self._gives_up, _SETTLE_RETRY_S)

    async def _renew(self) -> None:
        while not await _within(self._lets_expire, RENEW_INTERVAL_S):
            for key_id, held in tuple(self._held.items()):
                requests = frozenset(held)
                if not requests:
                    del self._held[key_id]
                    continue
                try:
                    await self._change(key_id, functools.partial(_renewed, requests))
                except (RedisError, OSError) as error:
                    log.warning("credits not renewed", problem=str(error))

    async def _change(self, key_id: str, change: _Change) -> None:
        """Puts what `change` makes of the account in its place; raises what it raises."""
        name = _name(key_id)
        async with self._locks[key_id], self._redis.pipeline(transaction=True) as pipe:
            while True:
                try:
                    await pipe.watch(name)
                    before = await pipe.hgetall(name)
                    seconds, microseconds = await pipe.time()
                    now_s = seconds + microseconds / 1e6
                    account = _account(before).without_expired(now_s - FORGET_S)
                    after = _fields(change(account, now_s))
                    pipe.multi()  # type: ignore[no-untyped-call]
                    if gone := before.keys() - after.keys():
                        pipe.hdel(name, *gone)
                    if after:
                        pipe.hset(name, mapping=after)
                    await pipe.execute()
                    return
                except WatchError:
                    continue

    async def _now_s(self) -> float:
        """Redis' own time: the servers' clocks may differ."""
        seconds, microseconds = await self._redis.time()
        return float(seconds + microseconds / 1e6)


async def _within(event: asyncio.Event, time_s: float) -> bool:
    """Whether it happens in that time; waits for it."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), time_s)
    return event.is_set()


async def read_shared_spent(url: str, key_ids: Iterable[str]) -> dict[str, int]:
    """Pixel-steps spent by key id; raises LimitsUnavailable."""
    async with _connected(url) as redis:
        try:
            spent = {key_id: await redis.hget(_name(key_id), _SPENT) for key_id in key_ids}
        except (RedisError, OSError) as error:
            raise limits_unavailable() from error
    return {key_id: int(amount) for key_id, amount in spent.items() if amount is not None}


def _connected(url: str) -> Redis:
    redis: Redis = Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
    )
    return redis


def _renewed(requests: frozenset[str], account: Account, now_s: float) -> Account:
    return account.renew(requests, now_s + LEASE_S)


def _name(key_id: str) -> str:
    return f"darkroom:account:{key_id}"


def _account(fields: Mapping[Any, Any]) -> Account:
    reservations = {}
    for name, value in fields.items():
        if name.startswith(_REQUEST):
            pixel_steps, _, expires_s = value.partition(" ")
            held = Reservation(int(pixel_steps), float(expires_s))
            reservations[name.removeprefix(_REQUEST)] = held
    return Account(int(fields.get(_SPENT, "0")), reservations)


def _fields(account: Account) -> dict[Any, Any]:
    held = {
        f"{_REQUEST}{name}": f"{one.pixel_steps} {one.expires_s}"
        for name, one in account.reservations.items()
    }
    return {_SPENT: str(account.spent), **held}
