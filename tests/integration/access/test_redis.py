"""Limits and credits that several servers share, in a real redis-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from darkroom_server.access import redis_ledger
from darkroom_server.access.account import Balance
from darkroom_server.access.rates import Rates
from darkroom_server.access.redis_ledger import RedisLedger, read_shared_spent
from darkroom_server.domain.errors import InsufficientCredits, LimitsUnavailable, RateLimited
from tests.integration.access.redis_server import RedisServer, redis_server
from tests.unit.access.example_keys import api_key


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def ledgers(redis: RedisServer) -> AsyncIterator[list[RedisLedger]]:
    """Those of two servers."""
    found = [RedisLedger(redis.url), RedisLedger(redis.url)]
    yield found
    for ledger in found:
        await ledger.close()


async def settled(ledger: RedisLedger) -> None:
    while ledger.settling_count:
        await asyncio.sleep(0.01)


async def test_servers_see_what_each_other_reserve_and_spend(ledgers: list[RedisLedger]) -> None:
    one, other = ledgers
    key = api_key(budget_pixel_steps=100)
    assert await one.reserve(key, "a", 60) == Balance(spent=0, left=40)
    with pytest.raises(InsufficientCredits):
        await other.reserve(key, "b", 60)
    one.settle(key.id, "a", 30)
    await settled(one)
    assert await other.balance(key) == Balance(spent=30, left=70)
    assert await other.reserve(key, "b", 60) == Balance(spent=30, left=10)


async def test_many_at_once_cannot_overspend(ledgers: list[RedisLedger]) -> None:
    key = api_key(budget_pixel_steps=100)

    async def ask(number: int) -> bool:
        try:
            await ledgers[number % 2].reserve(key, f"r{number}", 10)
        except InsufficientCredits:
            return False
        return True

    assert sum(await asyncio.gather(*(ask(number) for number in range(30)))) == 10
    assert (await ledgers[0].balance(key)).left == 0


async def test_requests_at_a_time_are_counted_over_all_servers(ledgers: list[RedisLedger]) -> None:
    one, other = ledgers
    key = api_key(max_concurrent_requests=1)
    await one.reserve(key, "a", 1)
    with pytest.raises(RateLimited):
        await other.reserve(key, "b", 1)
    one.settle(key.id, "a", 1)
    await settled(one)
    await other.reserve(key, "b", 1)


async def test_settling_twice_charges_once(redis: RedisServer, ledgers: list[RedisLedger]) -> None:
    key = api_key(budget_pixel_steps=100)
    await ledgers[0].reserve(key, "a", 40)
    for ledger in (*ledgers, *ledgers):
        ledger.settle(key.id, "a", 40)
    for ledger in ledgers:
        await settled(ledger)
    assert await read_shared_spent(redis.url, [key.id, "nobody"]) == {key.id: 40}


async def test_what_a_server_that_died_held_is_free_again_and_what_runs_is_renewed(
    ledgers: list[RedisLedger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "LEASE_S", 0.6)
    monkeypatch.setattr(redis_ledger, "RENEW_INTERVAL_S", 0.1)
    alive, dead = ledgers
    key = api_key(budget_pixel_steps=100)
    await alive.reserve(key, "a", 30)
    await dead.reserve(key, "b", 70)
    dead.stop_renewing()
    async with asyncio.timeout(300):
        while (await alive.balance(key)).left != 70:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    assert await alive.balance(key) == Balance(spent=0, left=70)
    # Only stalled, it settles still.
    dead.settle(key.id, "b", 70)
    await settled(dead)
    assert (await alive.balance(key)).spent == 70


async def test_while_redis_is_away_nothing_runs_uncounted_and_what_ran_is_charged_later(
    redis: RedisServer, ledgers: list[RedisLedger]
) -> None:
    ledger = ledgers[0]
    key = api_key(budget_pixel_steps=100, rate_limit="5/hour")
    rates = Rates(redis.url)
    await rates.count(key)
    await ledger.reserve(key, "a", 40)
    redis.stop()
    ledger.settle(key.id, "a", 40)
    for asking in (ledger.reserve(key, "b", 10), ledger.balance(key), rates.count(key)):
        with pytest.raises(LimitsUnavailable, match="cannot be looked up now"):
            await asking
    redis.start()
    async with asyncio.timeout(300):
        await settled(ledger)
    assert await ledger.balance(key) == Balance(spent=40, left=60)
    standing = await rates.standing(key)
    assert standing is not None
    assert standing.remaining_count == 4


async def test_a_server_stops_also_while_redis_is_away(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_ledger, "RENEW_INTERVAL_S", 0.05)
    monkeypatch.setattr(redis_ledger, "_CLOSE_S", 0.2)
    ledger, key = RedisLedger(redis.url), api_key()
    for name in ("a", "b"):
        await ledger.reserve(key, name, 1)
    redis.stop()
    ledger.settle(key.id, "a", 1)
    async with asyncio.timeout(300):
        await ledger.close()
    assert ledger.settling_count == 0
    redis.start()


async def test_servers_share_rates(redis: RedisServer) -> None:
    key = api_key(rate_limit="3/hour")
    one, other = Rates(redis.url), Rates(redis.url)
    for rates in (one, other, one):
        await rates.count(key)
    with pytest.raises(RateLimited) as caught:
        await other.count(key)
    assert 3500 < caught.value.retry_after_s <= 3600


async def test_rates_go_by_the_time_of_redis_whatever_the_servers_clocks_say(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, other_key = api_key(rate_limit="1/second; 3/hour"), api_key(rate_limit="1/hour")
    rates = Rates(redis.url)
    for hours in (0, -3, 5):
        shifted_s = time.time() + hours * 3600
        monkeypatch.setattr(time, "time", lambda shifted_s=shifted_s: shifted_s)
        await rates.count(key)
        with pytest.raises(RateLimited, match="1 request in 1 second") as caught:
            await rates.count(key)
        assert 0 < caught.value.retry_after_s <= 1
        await asyncio.sleep(caught.value.retry_after_s + 0.02)
    with pytest.raises(RateLimited, match="3 requests in 1 hour"):
        await rates.count(key)
    standing = await rates.standing(other_key)
    assert standing is not None
    assert standing.remaining_count == 1
