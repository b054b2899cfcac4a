"""Every family that takes adapters: a small pipeline, its step model, and files for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.pipelines.families import FAMILIES
from tests.parity import crowds, test_flux, test_flux2_klein, test_sd, test_sd3, test_z_image
from tests.parity.random_adapters import (
    TEXTS,
    Pairs,
    random_pairs,
    write_diffusers,
    write_kohya,
    write_peft,
)
from tests.parity.test_sdxl_steps import image_spec, made_by_stock
from tests.parity.test_shared_steps import build as build_sdxl
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_flux2 import random_klein
from tests.parity.tiny_pipelines import random_sd, random_sdxl
from tests.parity.tiny_sd3 import random_sd3
from tests.parity.tiny_z_image import random_z_image

#: What trainers commonly add to, in whatever family, and what only some add to besides.
_LAYERS = ("to_q", "to_k", "to_v", "to_out.0", "linear_1", "proj_out", "linear")
_PREFIX = "base_model.model"
#: Settings of peft's that every layer of a file has.
_SETTINGS = {"r": 4, "lora_alpha": 6, "target_modules": ["to_q"], "rank_pattern": {}}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A family. `stock` is the stock pipeline's picture, `spec` a request to a pipeline.

    `kohya` is how those trainers name a layer, where diffusers reads them of that family.
    """

    pipeline: Callable[[Path], Any]
    build: Callable[[Any], Any]
    stock: Callable[[Any, ImageSpec], np.ndarray]
    spec: Callable[..., ImageSpec]
    denoiser: str = "transformer"
    kohya: Callable[[str], str | None] | None = None


def _whatever_it_is(spec: Callable[..., ImageSpec]) -> Callable[..., ImageSpec]:
    return lambda _, **changes: spec(**changes)


def _underlined(layer: str) -> str:
    return layer.replace(".", "_")


#: FLUX's authors' names of layers, which kohya's trainers use.
_AUTHORS = (
    (r"transformer_blocks\.(\d+)\.attn\.to_out\.0", r"double_blocks_\1_img_attn_proj"),
    (r"transformer_blocks\.(\d+)\.attn\.to_add_out", r"double_blocks_\1_txt_attn_proj"),
    (r"transformer_blocks\.(\d+)\.ff\.net\.2", r"double_blocks_\1_img_mlp_2"),
    (r"transformer_blocks\.(\d+)\.ff\.linear_out", r"double_blocks_\1_img_mlp_2"),
    (r"single_transformer_blocks\.(\d+)\.(proj_out|attn\.to_out)", r"single_blocks_\1_linear2"),
)


def _by_authors(layer: str) -> str | None:
    for pattern, name in _AUTHORS:
        if found := re.fullmatch(pattern, layer):
            return found.expand(name)
    return None


def _flux(kind: str, pipeline: Callable[[Path], Any]) -> Subject:
    return Subject(
        pipeline=pipeline,
        build=test_flux.build,
        stock=test_flux.stock,
        spec=_whatever_it_is(partial(test_flux.flux_spec, kind)),
        kohya=_by_authors,
    )


def _of_crowd(name: str) -> Subject:
    kohya = {"Qwen": _underlined, "FluxK": _by_authors}
    return Subject(
        pipeline=lambda folder: crowds.small_pipeline(name, folder),
        build=lambda pipeline: crowds.step_model(name, pipeline),
        stock=lambda pipeline, spec: crowds.stock(name, pipeline, spec),
        spec=crowds.spec_of,
        kohya=next((own for start, own in kohya.items() if name.startswith(start)), None),
    )


SUBJECTS: dict[str, Subject] = {
    "sd": Subject(
        pipeline=random_sd,
        build=test_sd.build,
        stock=test_sd.stock,
        spec=_whatever_it_is(image_spec),
        denoiser="unet",
        kohya=_underlined,
    ),
    "sdxl": Subject(
        pipeline=random_sdxl,
        build=build_sdxl,
        stock=made_by_stock,
        spec=_whatever_it_is(image_spec),
        denoiser="unet",
        kohya=_underlined,
    ),
    "sd3": Subject(
        pipeline=random_sd3,
        build=test_sd3.build,
        stock=test_sd3.stock,
        spec=_whatever_it_is(test_sd3.sd3_spec),
    ),
    "flux-dev": _flux("dev", lambda folder: random_flux(folder, guided=True)),
    "flux-dev-bf16": _flux(
        "dev", lambda folder: random_flux(folder, guided=True).to(torch.bfloat16)
    ),
    "flux-schnell": _flux(
        "schnell", lambda folder: random_flux(folder, guided=False, dynamic=False)
    ),
    "flux-fill": _flux("fill", random_flux_fill),
    "klein": Subject(
        pipeline=random_klein,
        build=test_flux2_klein.step_model,
        stock=test_flux2_klein.stock,
        spec=_whatever_it_is(test_flux2_klein.spec_of),
        kohya=_by_authors,
    ),
    "z-image": Subject(
        pipeline=random_z_image,
        build=test_z_image.step_model,
        stock=test_z_image.stock,
        spec=_whatever_it_is(test_z_image.spec_of),
        kohya=_underlined,
    ),
    **{
        name.removesuffix("Pipeline"): _of_crowd(name)
        for name in crowds.CROWDS
        if FAMILIES[name].takes_adapters
    },
}


def _denoiser_pairs(subject: Subject, pipeline: Any, rank: int, seed: int) -> Pairs:
    return random_pairs(getattr(pipeline, subject.denoiser), _LAYERS, rank=rank, seed=seed)


def has_text_adapters(pipeline: Any) -> bool:
    """Whether the family's first text encoder is one that adapters are written for: a CLIP."""
    return "text_encoder" in pipeline._lora_loadable_modules and any(
        name.endswith(TEXTS) for name, _ in pipeline.text_encoder.named_modules()
    )


def _text_pairs(pipeline: Any, seed: int) -> Pairs:
    return random_pairs(pipeline.text_encoder, TEXTS, rank=4, seed=seed, size=0.3)


def write_files(subject: Subject, pipeline: Any, folder: Path) -> dict[str, Path]:
    """A file of the denoiser in each layout that the family's trainers write, one with texts."""
    first = _denoiser_pairs(subject, pipeline, 4, 1)
    made = {
        "diffusers": write_diffusers(folder / "first.safetensors", {subject.denoiser: first}),
        "peft": write_peft(folder / "peft", _denoiser_pairs(subject, pipeline, 4, 2), _SETTINGS),
    }
    if subject.kohya is not None:
        made["kohya"] = _write_kohya(subject, pipeline, folder / "kohya.safetensors")
    if has_text_adapters(pipeline):
        parts = {subject.denoiser: _denoiser_pairs(subject, pipeline, 2, 5)}
        parts["text_encoder"] = _text_pairs(pipeline, 6)
        made["texts"] = write_diffusers(folder / "texts.safetensors", parts)
    return made


def _write_kohya(subject: Subject, pipeline: Any, file: Path) -> Path:
    """Of the layers that have a name there, and of the text encoder where there is one."""
    assert subject.kohya is not None
    module = getattr(pipeline, subject.denoiser)
    endings = (*_LAYERS[:4], "to_add_out", "ff.net.2", "linear_out", "proj_out", "to_out")
    pairs = random_pairs(module, endings, rank=4, seed=3)
    parts = {
        subject.denoiser: {
            name: pair
            for layer, pair in pairs.items()
            if (name := subject.kohya(layer)) is not None
        }
    }
    if subject.kohya is _by_authors:
        layers = [name for name, _ in module.named_modules()]
        for number in range(sum(1 for n in layers if re.fullmatch(r"transformer_blocks\.\d+", n))):
            down, up = pairs[f"transformer_blocks.{number}.attn.to_q"]
            joined = torch.cat([up, up.flip(0), -up])
            parts[subject.denoiser][f"double_blocks_{number}_img_attn_qkv"] = down, joined
    if has_text_adapters(pipeline):
        parts["text_encoder"] = _text_pairs(pipeline, 4)
    return write_kohya(file, parts, alpha=3.0)


def load_into(pipeline: Any, denoiser: str, file: Path, name: str) -> None:
    """By diffusers: `load_lora_weights`, or what it has for peft's own."""
    if file.parent.name != "peft":
        pipeline.load_lora_weights(str(file), adapter_name=name)
        return
    settings = json.loads((file.parent / "adapter_config.json").read_text())
    getattr(pipeline, denoiser).load_lora_adapter(
        load_file(file),
        prefix=_PREFIX,
        adapter_name=name,
        metadata={f"{_PREFIX}.{key}": value for key, value in settings.items()},
    )


def write_every_layer(subject: Subject, pipeline: Any, file: Path) -> Path:
    """An adapter of every linear layer and convolution of the denoiser that can be added to."""
    module = getattr(pipeline, subject.denoiser)
    names = tuple(
        name
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear)
        or (isinstance(layer, torch.nn.Conv2d) and layer.groups == 1)
    )
    pairs = {
        name: pair
        for name, pair in random_pairs(module, names, rank=2, seed=8, size=0.1).items()
        if name in names
    }
    tensors = {}
    for name, (down, up) in pairs.items():
        tensors[f"{subject.denoiser}.{name}.lora_A.weight"] = down
        tensors[f"{subject.denoiser}.{name}.lora_B.weight"] = up
    save_file(tensors, file)
    return file
