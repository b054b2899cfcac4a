from __future__ import annotations

import pytest

from darkroom_server.access.rates import Rates
from darkroom_server.domain.errors import RateLimited
from tests.unit.access.example_keys import api_key


async def test_so_many_and_no_more() -> None:
    rates, key = Rates(None), api_key(rate_limit="2/hour")
    standings = [await rates.count(key) for _ in range(2)]
    assert [one.remaining_count for one in standings if one] == [1, 0]
    with pytest.raises(RateLimited, match="may make 2 requests in 1 hour") as caught:
        await rates.count(key)
    assert 3500 < caught.value.retry_after_s <= 3600
    assert caught.value.key_id == key.id
    await rates.count(api_key(rate_limit="2/hour"))


async def test_the_standing_is_that_of_the_limit_nearest_to_its_end() -> None:
    rates, key = Rates(None), api_key(rate_limit="2/minute; 1000/hour")
    await rates.count(key)
    standing = await rates.standing(key)
    assert standing is not None
    assert (standing.limit_count, standing.window_s, standing.remaining_count) == (2, 60, 1)


async def test_what_a_short_limit_refuses_does_not_use_up_the_long_one() -> None:
    rates = Rates(None)
    key = api_key(rate_limit="3/day; 1/hour")
    await rates.count(key)
    for _ in range(5):
        with pytest.raises(RateLimited, match="1 request in 1 hour"):
            await rates.count(key)
    day = await rates.standing(api_key(id=key.id, rate_limit="3/day"))
    assert day is not None
    assert day.remaining_count == 2


async def test_a_key_without_a_limit_has_no_standing() -> None:
    rates, key = Rates(None), api_key()
    assert await rates.count(key) is None
    assert await rates.standing(key) is None
