"""What is known of a family before its weights are loaded is what the loaded one does."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

from darkroom_server.backends.diffusers import families as backend
from darkroom_server.backends.diffusers import loader
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.pipelines import families


@pytest.mark.parametrize("class_name", families.FAMILIES)
def test_facts_agree_with_the_step_model(class_name: str) -> None:
    kind = loader.family_of(families.FAMILIES[class_name].step_model)
    assert isinstance(kind, type)
    assert issubclass(kind, DiffusersStepModel)
    assert families.FAMILIES[class_name].strength_rounding is kind.strength_rounding


def test_every_step_model_is_known_before_it_is_loaded() -> None:
    folder = Path(backend.__file__).parent
    modules = [importlib.import_module(f"{backend.__name__}.{p.stem}") for p in folder.glob("*.py")]
    written = {
        f"{kind.__module__.removeprefix(backend.__name__)[1:]}.{kind.__name__}"
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, DiffusersStepModel)
        and not inspect.isabstract(kind)
    }
    assert written == {family.step_model for family in families.FAMILIES.values()}
