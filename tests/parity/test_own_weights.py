"""What serves is in memory: files that are rewritten in place change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from diffusers import UNet2DConditionModel

from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.models import Placement
from darkroom_server.repository.repository import ModelRepository
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.tiny_pipelines import random_sdxl


def test_copied_weights_lie_in_memory_as_those_that_are_mapped(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "m" / "1"
    random_sdxl(tmp_path).save_pretrained(folder)
    [model] = ModelRepository(tmp_path / "root").scan().models
    loaded = load_model(
        model.versions[0], Placement(), thread_count=1, prompts=PromptCache(max_bytes=0)
    )
    mapped = dict(UNet2DConditionModel.from_pretrained(folder / "unet").named_parameters())
    assert isinstance(loaded, SdxlStepModel)
    copied = dict(loaded.module.named_parameters())
    assert {parameter.data_ptr() % 64 for parameter in mapped.values()} != {0}
    for name, parameter in mapped.items():
        assert copied[name].data_ptr() % 64 == parameter.data_ptr() % 64, name
        assert copied[name].data_ptr() != parameter.data_ptr()


def test_weights_that_are_rewritten_in_place_change_no_picture(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "m" / "1"
    # Saved in the dtype that a processor computes in: torch would map them.
    random_sdxl(tmp_path).save_pretrained(folder)
    [model] = ModelRepository(tmp_path / "root").scan().models
    loaded = load_model(
        model.versions[0], Placement(), thread_count=1, prompts=PromptCache(max_bytes=0)
    )
    for weights in folder.rglob("*.safetensors"):
        byte_count = weights.stat().st_size
        with weights.open("r+b") as file:
            file.seek(byte_count // 2)
            file.write(bytes(byte_count - byte_count // 2))
    rewritten = stepped(loaded, image_spec())
    again = tmp_path / "again" / "m" / "1"
    random_sdxl(tmp_path).save_pretrained(again)
    [model] = ModelRepository(tmp_path / "again").scan().models
    whole = load_model(
        model.versions[0], Placement(), thread_count=1, prompts=PromptCache(max_bytes=0)
    )
    np.testing.assert_array_equal(rewritten, stepped(whole, image_spec()))
