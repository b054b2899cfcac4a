from __future__ import annotations

import pytest

from darkroom_server.domain.jobs import StrengthRounding


@pytest.mark.parametrize(
    ("step_count", "strength", "down", "up"),
    [
        pytest.param(20, 1.0, 20, 20, id="all"),
        pytest.param(20, 0.5, 10, 10, id="half"),
        pytest.param(4, 0.6, 2, 3, id="a-part-of-a-step"),
        pytest.param(4, 0.01, 0, 1, id="less-than-a-step"),
        pytest.param(4, 0.0, 0, 0, id="nothing"),
        pytest.param(10, 0.7, 7, 7, id="whole"),
        pytest.param(4, 1e-20, 0, 0, id="less-than-floating-point-tells"),
    ],
)
def test_a_part_of_a_step_runs_or_not(step_count: int, strength: float, down: int, up: int) -> None:
    assert StrengthRounding.DOWN.run_step_count(step_count, strength) == down
    assert StrengthRounding.UP.run_step_count(step_count, strength) == up
