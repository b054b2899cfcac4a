"""What is known of a family before its weights are loaded is what the loaded one does."""

from __future__ import annotations

import pytest

from darkroom_server.backends.diffusers import loader
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.models import families


@pytest.mark.parametrize("class_name", families.FAMILIES)
def test_facts_agree_with_the_step_model(class_name: str) -> None:
    kind = loader.FAMILIES[class_name]
    assert isinstance(kind, type)
    assert issubclass(kind, DiffusersStepModel)
    assert families.FAMILIES[class_name].strength_rounding is kind.strength_rounding


def test_every_step_model_is_known_before_it_is_loaded() -> None:
    assert set(loader.FAMILIES) == set(families.FAMILIES)
