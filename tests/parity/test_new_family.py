"""A family is one file with its step model, and one entry: nothing else knows its class."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.diffusers import families
from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.models import DeviceKind, Placement
from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.repository.repository import ModelRepository
from tests.parity.device import loads_onto_the_processor
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import image_spec

MODEL = Path(__file__).parents[2] / "model_repo" / "tiny-sdxl"
#: A class of diffusers whose requests run whole, so far.
CLASS = "StableDiffusionXLPAGPipeline"
pytestmark = loads_onto_the_processor


class OwnStepModel(SdxlStepModel):
    """What the file of a new family holds."""


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    file = ModuleType(f"{families.__name__}.of_the_test")
    file.OwnStepModel = OwnStepModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, file.__name__, file)
    like = FAMILIES["StableDiffusionXLPipeline"]
    made = dataclasses.replace(like, step_model="of_the_test.OwnStepModel", step_count=7)
    monkeypatch.setitem(FAMILIES, CLASS, made)


@pytest.mark.usefixtures("entry")
def test_an_entry_makes_its_pipelines_run_step_by_step(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "1"
    shutil.copytree(MODEL / "1", folder, ignore=shutil.ignore_patterns(".*", "MANIFEST*"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": CLASS}))
    [model] = ModelRepository(tmp_path).scan().models
    version = model.versions[0]
    assert version.model.step_model == "of_the_test.OwnStepModel"
    assert version.model.defaults.step_count == 7
    loaded = load_model(
        version,
        Placement(DeviceKind.CPU),
        thread_count=1,
        prompts=PromptCache(max_bytes=0),
    )
    assert not isinstance(loaded, RequestModel)
    assert isinstance(loaded, OwnStepModel)
    picture = stepped(loaded, image_spec(width_px=64, height_px=64, step_count=2))
    assert picture.shape == (64, 64, 3)
