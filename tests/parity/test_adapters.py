"""Adapters against diffusers with the same ones loaded and not fused, to the bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from darkroom_server.domain.adapters import AdapterUse
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from tests.parity.random_adapters import (
    ATTENTION,
    TEXTS,
    random_pairs,
    use,
    write_diffusers,
    write_kohya,
    write_peft,
)
from tests.parity.shared import shared_exactly, stepped
from tests.parity.test_sdxl_steps import image_spec, made_by_stock
from tests.parity.test_shared_steps import build
from tests.parity.tiny_pipelines import random_sdxl

pytest.importorskip("peft")


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_sdxl(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def files(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    unet = pipeline.unet
    texts = {
        name: random_pairs(getattr(pipeline, name), TEXTS, rank=4, seed=k, size=0.3)
        for k, name in enumerate(("text_encoder", "text_encoder_2"))
    }
    attention = random_pairs(unet, ATTENTION, rank=4, seed=10)
    convolutions = random_pairs(unet, ("conv1", "conv_shortcut", "to_q"), rank=3, seed=11)
    scaled = {
        "r": 8,
        "lora_alpha": 4,
        "target_modules": ["to_q"],
        "use_rslora": True,
        "rank_pattern": {},
        "alpha_pattern": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q": 6},
    }
    return {
        "denoiser": write_diffusers(folder / "denoiser.safetensors", {"unet": attention}),
        "texts": write_diffusers(folder / "texts.safetensors", texts),
        "all": write_kohya(folder / "all.safetensors", {"unet": attention} | texts, alpha=2.0),
        "convolutions": write_diffusers(
            folder / "convolutions.safetensors", {"unet": convolutions}
        ),
        "settings": write_diffusers(
            folder / "settings.safetensors",
            {"unet": random_pairs(unet, ("to_q",), rank=8, seed=12)},
            settings={"unet": scaled},
        ),
        "peft": write_peft(folder / "peft", random_pairs(unet, ("to_q",), rank=8, seed=13), scaled),
    }


def made_with_stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    """By diffusers and peft, adapters loaded in a pipeline of its own."""
    own = copy.deepcopy(pipeline)
    encoders = (own.text_encoder, own.text_encoder_2)
    loaded: list[tuple[torch.Tensor, torch.Tensor]] = []
    for number, one in enumerate(spec.adapters):
        file = one.adapter.path
        if file.parent.name == "peft":
            settings = json.loads((file.parent / "adapter_config.json").read_text())
            prefix = "base_model.model"
            own.unet.load_lora_adapter(
                load_file(file),
                prefix=prefix,
                adapter_name=f"a{number}",
                metadata={f"{prefix}.{name}": value for name, value in settings.items()},
            )
        else:
            own.load_lora_weights(str(file), adapter_name=f"a{number}")
        tensors = [t for e in encoders for n, t in e.named_parameters() if f".a{number}." in n]
        loaded += [(tensor, tensor.detach().clone()) for tensor in tensors]
    # transformers draws the encoders' earlier adapters anew when it loads a later one.
    for tensor, read in loaded:
        tensor.data.copy_(read)
    names = [f"a{number}" for number in range(len(spec.adapters))]
    own.set_adapters(names, [one.weight for one in spec.adapters])
    return made_by_stock(own, spec)


USES = {
    "one": [("denoiser", 1.0)],
    "weighted": [("denoiser", 0.37)],
    "negative": [("denoiser", -0.8)],
    "two": [("denoiser", 0.7), ("convolutions", 0.4)],
    "two the other way": [("convolutions", 0.4), ("denoiser", 0.7)],
    "texts": [("texts", 1.0)],
    "kohya": [("all", 0.9)],
    "three with texts": [("all", 0.5), ("texts", -0.3), ("settings", 1.1)],
    "settings": [("settings", 1.0)],
    "peft": [("peft", 1.0)],
}


def uses(files: dict[str, Path], name: str) -> tuple[AdapterUse, ...]:
    return tuple(use(files[file], weight) for file, weight in USES[name])


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0], ids=["unguided", "guided"])
def test_alone_has_the_bytes_of_diffusers(
    pipeline: Any, files: dict[str, Path], name: str, guidance_scale: float
) -> None:
    spec = image_spec(
        adapters=uses(files, name), guidance_scale=guidance_scale, negative_prompt="blue"
    )
    model = build(pipeline)
    without = stepped(model, image_spec(guidance_scale=guidance_scale, negative_prompt="blue"))
    made = stepped(model, spec)
    assert not np.array_equal(made, without)
    np.testing.assert_array_equal(made, made_with_stock(pipeline, spec))


def test_others_in_a_step_change_nothing(
    pipeline: Any, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [*USES, None, None]
    specs = [
        image_spec(
            adapters=() if name is None else uses(files, name),
            seeds=(number,),
            guidance_scale=1.0 if number % 3 == 0 else 5.0,
            step_count=3 + number % 3,
            reproducibility=Reproducibility.EXACT,
        )
        for number, name in enumerate(chosen)
    ]
    model = build(pipeline)
    alone = [stepped(model, spec) for spec in specs]
    made = shared_exactly(model, specs, monkeypatch)
    for one, wanted in zip(made, alone, strict=True):
        np.testing.assert_array_equal(one, wanted)


def test_without_adapters_layers_are_left_as_they_are(
    pipeline: Any, files: dict[str, Path]
) -> None:
    model = build(pipeline)
    parts = (pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2)

    def hooks() -> list[int]:
        return [len(module._forward_hooks) for part in parts for module in part.modules()]

    before = hooks()
    stepped(model, image_spec(adapters=uses(files, "three with texts")))
    assert hooks() == before
