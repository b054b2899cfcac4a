"""Moving windows, by a clock that nobody sets."""

from __future__ import annotations

import time

import pytest

from darkroom_server.access.rates import Rates
from darkroom_server.access.windows import MemoryWindows, Window
from darkroom_server.domain.errors import RateLimited
from tests.unit.access.example_keys import api_key


async def test_a_window_moves() -> None:
    now_s = 0.0
    windows = MemoryWindows(lambda: now_s)
    assert await windows.look("a", 2, 60) == Window(is_let_in=False, count=0, reset_s=0.0)
    assert await windows.hit("a", 2, 60) == Window(is_let_in=True, count=1, reset_s=60.0)
    now_s = 30.0
    assert await windows.hit("a", 2, 60) == Window(is_let_in=True, count=2, reset_s=30.0)
    assert await windows.hit("a", 2, 60) == Window(is_let_in=False, count=2, reset_s=30.0)
    assert (await windows.hit("b", 2, 60)).is_let_in
    now_s = 60.0
    assert await windows.hit("a", 2, 60) == Window(is_let_in=True, count=2, reset_s=30.0)


async def test_a_clock_that_is_set_back_locks_no_key_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    rates, key = Rates(None, MemoryWindows(lambda: now_s)), api_key(rate_limit="1/minute")
    await rates.count(key)
    set_back_s = time.time() - 3 * 3600
    monkeypatch.setattr(time, "time", lambda: set_back_s)
    with pytest.raises(RateLimited) as caught:
        await rates.count(key)
    assert caught.value.retry_after_s == 60
    now_s = 60.0
    await rates.count(key)
