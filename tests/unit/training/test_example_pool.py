"""A pool is filled once and renewed a little at every step."""

from __future__ import annotations

import itertools
import random

from darkroom_training.example_pool import ExamplePool


def test_every_step_makes_some_examples_anew() -> None:
    numbers = itertools.count()
    made: list[int] = []

    def make(count: int) -> list[int]:
        made.append(count)
        return [next(numbers) for _ in range(count)]

    pool = ExamplePool(make, random.Random(0), size=10, fresh_per_step=2)
    assert sum(made) == 10
    seen = {number for _ in range(50) for number in pool.choose(8)}
    assert sum(made) == 10 + 50 * 2
    assert max(seen) > 100
    # What was replaced is gone: little of the first ten is left.
    assert len({number for number in pool.choose(100) if number < 10}) <= 3
