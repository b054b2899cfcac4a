"""Every config that comes with Darkroom beside a small pipeline of its family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler

from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.repository.catalogue import CatalogueEntry, catalogue
from darkroom_server.repository.repository import ModelRepository
from tests.parity.pipeline_kits import build
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_flux2 import random_klein
from tests.parity.tiny_hidream import random_hidream
from tests.parity.tiny_pipelines import random_sd, random_sdxl
from tests.parity.tiny_sd3 import random_sd3
from tests.parity.tiny_z_image import random_z_image


def small(kind: Any, scheduler: Any = None) -> Callable[[Path], Any]:
    """What builds a small pipeline of a class, with its published scheduler where that differs."""

    def made(folder: Path) -> Any:
        pipeline = build(kind, folder)
        if scheduler is not None:
            pipeline.scheduler = scheduler
        return pipeline

    return made


def flow_solver() -> Any:
    """As SANA 1.5 is published."""
    return diffusers.DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    )


BUILDERS: dict[str, Callable[[Path], Any]] = {
    "black-forest-labs/FLUX.1-Fill-dev": random_flux_fill,
    "Alpha-VLLM/Lumina-Image-2.0": small(diffusers.Lumina2Pipeline),
    "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers": small(
        diffusers.SanaPipeline, flow_solver()
    ),
    "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS": small(diffusers.PixArtSigmaPipeline),
    "Qwen/Qwen-Image-Edit": small(diffusers.QwenImageEditPipeline),
    "Qwen/Qwen-Image-Edit-2509": small(diffusers.QwenImageEditPlusPipeline),
    "Qwen/Qwen-Image": small(diffusers.QwenImagePipeline),
    "black-forest-labs/FLUX.1-Kontext-dev": small(diffusers.FluxKontextPipeline),
    "AIDC-AI/Ovis-Image-7B": small(diffusers.OvisImagePipeline),
    "fal/AuraFlow-v0.3": small(diffusers.AuraFlowPipeline),
    "lodestones/Chroma1-HD": small(diffusers.ChromaPipeline),
    "zai-org/CogView4-6B": small(diffusers.CogView4Pipeline),
    "black-forest-labs/FLUX.1-dev": lambda folder: random_flux(folder, guided=True),
    "black-forest-labs/FLUX.1-schnell": lambda folder: random_flux(
        folder, guided=False, dynamic=False
    ),
    "HiDream-ai/HiDream-I1-Dev": lambda folder: random_hidream(folder, FlowMatchLCMScheduler()),
    "HiDream-ai/HiDream-I1-Fast": lambda folder: random_hidream(folder, FlowMatchLCMScheduler()),
    "HiDream-ai/HiDream-I1-Full": lambda folder: random_hidream(
        folder, FlowMatchEulerDiscreteScheduler()
    ),
    "black-forest-labs/FLUX.2-klein-4B": lambda folder: random_klein(folder, is_distilled=True),
    "black-forest-labs/FLUX.2-klein-base-4B": random_klein,
    "black-forest-labs/FLUX.2-dev": small(diffusers.Flux2Pipeline),
    "Tongyi-MAI/Z-Image": random_z_image,
    "Tongyi-MAI/Z-Image-Turbo": random_z_image,
    "stabilityai/sdxl-turbo": random_sdxl,
    "stabilityai/stable-diffusion-2-1": lambda folder: random_sd(folder, prediction="v_prediction"),
    "stabilityai/stable-diffusion-3.5-large": random_sd3,
    "stabilityai/stable-diffusion-3.5-large-turbo": random_sd3,
    "stabilityai/stable-diffusion-3.5-medium": random_sd3,
    "stabilityai/stable-diffusion-xl-base-1.0": random_sdxl,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": lambda folder: random_sd(folder, checked=True),
}


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.repo_id)
def test_a_config_of_the_catalogue_fits_its_family(tmp_path: Path, entry: CatalogueEntry) -> None:
    version = tmp_path / "root" / "m" / "1"
    made = BUILDERS[entry.repo_id](tmp_path)
    if "Qwen-Image-Edit" in entry.repo_id:
        # It cannot be saved here: a part of it needs torchvision.
        made.register_modules(processor=None)
    made.save_pretrained(version)
    # What images of their sizes need, and the small ones lack.
    made_for: dict[str, object] = {}
    if "HiDream" in entry.repo_id:
        # Its images have at most the area that the transformer was made for: 1024 x 1024.
        made_for = {"max_resolution": [128, 128]}
    elif "stable-diffusion-3" in entry.repo_id:
        made_for = {"pos_embed_max_size": 192}
    elif "Qwen-Image" in entry.repo_id:
        # As published: diffusers does not take it any more, and ignores it.
        made_for = {"pooled_projection_dim": 768}
    elif "AuraFlow" in entry.repo_id:
        # Of all tokens: 96 along each edge.
        made_for = {"pos_embed_max_size": 9216}
    if made_for:
        config = version / "transformer" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | made_for))
    (version.parent / "config.pbtxt").write_text(entry.text)
    scan = ModelRepository(tmp_path / "root").scan()
    assert list(map(str, scan.problems)) == []
    [model] = scan.models
    settings = entry.settings()
    assert model.info.defaults.step_count == settings.defaults.step_count
    assert model.info.defaults.width_px == settings.defaults.width_px
    # All that its class can do.
    assert (
        model.info.tasks == frozenset(settings.tasks) == FAMILIES[model.info.pipeline_class].tasks
    )
    assert model.info.aliases == settings.aliases
    # What a request may ask for is no less than what it gets by default.
    assert model.info.limits.max_pixel_count >= settings.defaults.width_px**2  # type: ignore[operator]
