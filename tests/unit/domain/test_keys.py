from __future__ import annotations

import pytest

from darkroom_server.domain.jobs import FillSpec, Pixels, StrengthRounding, Task
from darkroom_server.domain.keys import PERMISSION_OF_TASK, cost_pixel_steps, in_credits
from tests.unit.access.example_keys import api_key
from tests.unit.specs import image_spec

NAMES = ("sdxl", "models/sdxl", "example/SDXL", "xl")


@pytest.mark.parametrize(
    ("patterns", "allowed"),
    [
        pytest.param(("*",), True, id="all"),
        pytest.param(("sdxl",), True, id="name"),
        pytest.param(("EXAMPLE/*",), True, id="hub-id-whatever-the-case"),
        pytest.param(("other", "x?"), True, id="one-of-several"),
        pytest.param(("sd",), False, id="no-part-of-a-name"),
        pytest.param((), False, id="none"),
    ],
)
def test_models_are_allowed_by_glob(patterns: tuple[str, ...], allowed: bool) -> None:
    assert api_key(models=patterns).allows_model(NAMES) is allowed


def test_every_task_needs_a_permission() -> None:
    assert set(PERMISSION_OF_TASK) == set(Task)


def test_a_credit_is_a_megapixel_taken_through_a_step() -> None:
    spec = image_spec(width_px=1000, height_px=1000, step_count=20, seeds=(1, 2, 3))
    assert in_credits(cost_pixel_steps(spec, StrengthRounding.DOWN)) == 60


@pytest.mark.parametrize(
    ("rounding", "cost"), [(StrengthRounding.DOWN, 100 * 3), (StrengthRounding.UP, 100 * 4)]
)
def test_steps_that_a_strength_cuts_off_cost_nothing(rounding: StrengthRounding, cost: int) -> None:
    nothing = Pixels(0, 0, 3, b"")
    fill = FillSpec(image=nothing, mask=nothing, strength=0.35, preserve_unmasked=False)
    spec = image_spec(width_px=10, height_px=10, step_count=10, task=Task.FILL, fill=fill)
    assert cost_pixel_steps(spec, rounding) == cost
