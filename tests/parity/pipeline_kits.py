"""A small pipeline with random weights for every class of diffusers that one can be built for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from tests.parity.device import placed
from tests.parity.kits import text_to_image_kits as own
from tests.parity.kits import token_kits as token
from tests.parity.kits import transformer_kits as joint
from tests.parity.kits import two_stage_kits as staged
from tests.parity.kits import unet_kits as unet

Kit = Callable[[str, Path], dict[str, Any]]

#: By what a class's name begins with; the longest that fits is taken.
KITS: dict[str, Kit] = {
    "Amused": token.amused,
    "AuraFlow": own.aura_flow,
    "Bria": joint.bria,
    "BriaFibo": staged.bria_fibo,
    "Chroma": joint.chroma,
    "CogView3": own.cogview3,
    "CogView4": own.cogview4,
    "CycleDiffusion": unet.sd,
    "Flux": joint.flux,
    "Flux2": joint.flux2,
    "HunyuanImagePipeline": staged.hunyuan_image,
    "HunyuanDiT": own.hunyuan_dit,
    "IF": unet.deepfloyd,
    "Kandinsky3": own.kandinsky3,
    "KandinskyV22": staged.kandinsky22,
    "LatentConsistency": unet.sd,
    "LongCat": joint.long_cat,
    "Lumina": own.lumina,
    "Lumina2": own.lumina2,
    "OvisImage": joint.ovis,
    "PixArt": own.pixart,
    "QwenImage": joint.qwen,
    "Sana": own.sana,
    "SemanticStableDiffusion": unet.sd,
    "StableDiffusion": unet.sd,
    "StableDiffusion3": joint.sd3,
    "StableDiffusionXL": unet.sdxl,
    "ZImage": joint.z_image,
}
#: Classes of those kinds with parts that no kit has, and which.
LACKING: dict[str, str] = {
    "StableDiffusionParadigmsPipeline": "a scheduler of parallel steps",
    "StableDiffusionAdapterPipeline": "an adapter that fits so small a UNet",
    "StableDiffusionControlNetXSPipeline": "a ControlNet of its own",
    "StableDiffusionLatentUpscalePipeline": "a UNet of its own",
    "StableDiffusionXLAdapterPipeline": "an adapter that fits so small a UNet",
    "StableDiffusionXLControlNetXSPipeline": "a ControlNet of its own",
    "LongCatImageEditPipeline": "a processor of texts and pictures",
    "LongCatImagePipeline": "a processor of texts and pictures",
    "QwenImageEditInpaintPipeline": "a processor of texts and pictures that can be saved",
    "QwenImageLayeredPipeline": "a processor of texts and pictures",
    "ZImageOmniPipeline": "an encoder of pictures",
}


def kit_of(class_name: str) -> Kit | None:
    """What makes the parts of a class, or None where nothing small was written for it."""
    fitting = [start for start in KITS if class_name.startswith(start)]
    return KITS[max(fitting, key=len)] if fitting and class_name not in LACKING else None


def build(kind: type[DiffusionPipeline], folder: Path) -> Any:
    """A pipeline of a class, with the parts that its constructor takes."""
    torch.manual_seed(0)
    kit = kit_of(kind.__name__)
    assert kit is not None
    parts = kit(kind.__name__, folder)
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in parts:
            given[name] = parts[name]
        elif parameter.default is inspect.Parameter.empty:
            given[name] = None
    return placed(kind(**given))
