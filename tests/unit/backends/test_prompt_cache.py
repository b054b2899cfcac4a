from __future__ import annotations

import numpy as np
import pytest

from darkroom_server.backends.prompt_cache import PromptCache


def embedding(value: int) -> tuple[np.ndarray, ...]:
    """Eight bytes in two arrays."""
    return (np.full(4, value, np.uint8), np.full(4, value, np.uint8))


def filled(cache: PromptCache, *keys: int) -> PromptCache:
    for key in keys:
        cache.lookup(key, lambda key=key: embedding(key))
    return cache


def test_a_text_seen_before_is_not_encoded_again() -> None:
    cache = filled(PromptCache(max_bytes=100), 1)
    found = cache.lookup(1, lambda: pytest.fail("encoded again"))
    assert found[0][0] == 1
    assert (cache.hit_count, cache.miss_count, cache.held_bytes) == (1, 1, 8)


def test_the_least_recently_used_goes_first() -> None:
    cache = filled(PromptCache(max_bytes=24), 1, 2, 3, 1, 4)
    assert cache.held_bytes == 24
    hits = cache.hit_count
    filled(cache, 1, 3, 4)
    assert cache.hit_count == hits + 3
    filled(cache, 2)
    assert cache.hit_count == hits + 3


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = filled(PromptCache(max_bytes=7), 1, 1)
    assert (cache.hit_count, cache.miss_count, cache.held_bytes) == (0, 2, 0)


def test_a_failure_is_not_kept() -> None:
    cache = PromptCache(max_bytes=100)
    with pytest.raises(ZeroDivisionError):
        cache.lookup(1, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    filled(cache, 1)
    assert cache.held_bytes == 8
