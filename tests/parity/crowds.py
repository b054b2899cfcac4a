"""Families that are tried alone and among others in one way: an entry for each.

A family's entry says what its pipelines are called and given; `test_crowds.py` does the rest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux_kontext, pipeline_flux_kontext_inpaint
from diffusers.pipelines.qwenimage import (
    pipeline_qwenimage_edit,
    pipeline_qwenimage_edit_inpaint,
    pipeline_qwenimage_edit_plus,
)

from darkroom_server.backends.diffusers.families import flux_kontext
from darkroom_server.backends.diffusers.loader import family_of
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, Reproducibility, Task
from darkroom_server.domain.references import REFERENCE_RULES
from darkroom_server.domain.whole_pipelines import UNSAID_SETTINGS
from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.pipelines.schedulers import Schedulers
from tests.parity.pipeline_kits import build
from tests.parity.test_sdxl_steps import image_spec, source_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """One family. `image_to_image` and `fill` are the stock pipelines of those tasks.

    `guidance` is what it calls the guidance, `constants` what every call is given besides.
    """

    image_to_image: Any = None
    fill: Any = None
    most_references: int = 0
    #: Widths and heights of the images that edits go by.
    reference_sizes: tuple[tuple[int, int], ...] = ((40, 32), (32, 40), (50, 50))
    guidance: str = "guidance_scale"
    constants: Mapping[str, Any] = field(default_factory=dict)
    #: Tried by a file of its own at every run, and here by `make exact`.
    has_own_tests: bool = False
    #: Changes that a family's steps may trip over, besides those that every family is tried with.
    special: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    #: Done to a small pipeline so that a forgotten setting shows.
    change: Callable[[Any], None] | None = None


_EXACT_SIZE = {"use_resolution_binning": False}
#: FLUX.2 takes none that are smaller; of none of these is an edge a multiple of a token's.
_FLUX2_SIZES = ((72, 97), (65, 80), (130, 70))


def _with_a_norm(pipeline: Any) -> None:
    """The norm of FLUX.2's autoencoder does something."""
    norm = pipeline.vae.bn
    norm.running_mean.copy_(torch.linspace(-0.5, 0.5, len(norm.running_mean)))
    norm.running_var.copy_(torch.linspace(0.5, 1.5, len(norm.running_var)))


CROWDS: dict[str, Crowd] = {
    "AuraFlowPipeline": Crowd(),
    "ChromaPipeline": Crowd(
        image_to_image=diffusers.ChromaImg2ImgPipeline,
        fill=diffusers.ChromaInpaintPipeline,
        # That to fill takes half as many by default.
        constants={"max_sequence_length": 512},
    ),
    "CogView4Pipeline": Crowd(),
    "Flux2KleinPipeline": Crowd(
        fill=diffusers.Flux2KleinInpaintPipeline,
        most_references=3,
        reference_sizes=_FLUX2_SIZES,
        change=_with_a_norm,
        has_own_tests=True,
    ),
    "Flux2Pipeline": Crowd(most_references=3, reference_sizes=_FLUX2_SIZES, change=_with_a_norm),
    "FluxPipeline": Crowd(
        image_to_image=diffusers.FluxImg2ImgPipeline,
        fill=diffusers.FluxInpaintPipeline,
        constants={"negative_prompt": None, "max_sequence_length": 32},
        has_own_tests=True,
    ),
    "FluxKontextPipeline": Crowd(
        fill=diffusers.FluxKontextInpaintPipeline,
        most_references=1,
        constants={"negative_prompt": None, "max_area": 0, "max_sequence_length": 32},
    ),
    "Lumina2Pipeline": Crowd(),
    "OvisImagePipeline": Crowd(),
    "PixArtSigmaPipeline": Crowd(constants=_EXACT_SIZE),
    "QwenImageEditPipeline": Crowd(
        fill=diffusers.QwenImageEditInpaintPipeline, guidance="true_cfg_scale", most_references=1
    ),
    "QwenImageEditPlusPipeline": Crowd(guidance="true_cfg_scale", most_references=3),
    "QwenImagePipeline": Crowd(
        image_to_image=diffusers.QwenImageImg2ImgPipeline,
        fill=diffusers.QwenImageInpaintPipeline,
        guidance="true_cfg_scale",
        special={"nothing-to-lead-away-from": {"negative_prompt": None}},
    ),
    "SanaPipeline": Crowd(constants=_EXACT_SIZE),
    "StableDiffusion3Pipeline": Crowd(
        image_to_image=diffusers.StableDiffusion3Img2ImgPipeline, has_own_tests=True
    ),
    "ZImagePipeline": Crowd(
        image_to_image=diffusers.ZImageImg2ImgPipeline,
        fill=diffusers.ZImageInpaintPipeline,
        has_own_tests=True,
    ),
}


def small_pipeline(class_name: str, folder: Path) -> Any:
    """A pipeline with random weights."""
    made = build(getattr(diffusers, class_name), folder)
    if (change := CROWDS[class_name].change) is not None:
        change(made)
    return made


def schedulers_of(class_name: str, pipeline: Any) -> tuple[str, ...]:
    """Every one that can step the pipeline as it is configured."""
    family, own = FAMILIES[class_name], pipeline.scheduler
    return Schedulers(
        family.scheduler_kind, family.schedule_gives, type(own).__name__, dict(own.config)
    ).usable()


def step_model(class_name: str, pipeline: Any) -> AnyFamilyModel:
    """What steps it."""
    kind = family_of(FAMILIES[class_name].step_model)
    made: AnyFamilyModel = kind(
        pipeline,
        allowed_schedulers=schedulers_of(class_name, pipeline),
        prompts=PromptCache(max_bytes=1 << 20),
    )
    return made


def spec_of(pipeline: Any, **changes: Any) -> ImageSpec:
    """A guided request, of a reference image where the model needs one."""
    own = type(pipeline.scheduler).__name__
    given: dict[str, Any] = {"scheduler": own, "negative_prompt": "blue"}
    rule = REFERENCE_RULES.get(type(pipeline).__name__)
    if rule is not None and rule.is_required:
        given |= edit((40, 32))
    return image_spec(**(given | changes))


def edit(*sizes: tuple[int, int]) -> dict[str, Any]:
    """What makes a request one of reference images of these widths and heights."""
    images = tuple(_noisy(*size, number) for number, size in enumerate(sizes))
    return {"task": Task.EDIT, "reference_images": images}


def _noisy(width_px: int, height_px: int, number: int) -> Pixels:
    generator = np.random.default_rng(number)
    content = generator.integers(0, 256, 3 * width_px * height_px, np.uint8).tobytes()
    return Pixels(width_px, height_px, 3, content)


def edits(class_name: str) -> dict[str, dict[str, Any]]:
    """Changes of a family that takes reference images: with one, and with as many as tried."""
    crowd = CROWDS[class_name]
    sizes = crowd.reference_sizes[: crowd.most_references]
    several = {"three-references": edit(*sizes)} if len(sizes) > 1 else {}
    return ({"one-reference": edit(*sizes[:1])} if sizes else {}) | several


def filling(strength: float = 1.0, **changes: Any) -> dict[str, Any]:
    """What makes a request one to repaint the right of noise, all of which is the model's."""
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 27:] = 255
    fill = FillSpec(
        image=_noisy(64, 64, 9),
        mask=Pixels(64, 64, 1, mask.tobytes()),
        strength=strength,
        preserve_unmasked=False,
    )
    return {"task": Task.FILL, "fill": fill, "reference_images": (), **changes}


def fills(class_name: str) -> dict[str, dict[str, Any]]:
    """Changes of a family that fills by blending: whole, in part, and beside a reference image."""
    if CROWDS[class_name].fill is None:
        return {}
    changes = {"fill": filling(), "fill-in-part": filling(0.6, step_count=4, seeds=(0,))}
    # Draws in every step, after all that the pipeline draws to begin with.
    changes["fill-with-draws"] = filling(0.8, step_count=4, scheduler="FlowMatchLCMScheduler")
    rule = REFERENCE_RULES.get(class_name)
    if rule is not None and rule.fill_count:
        beside = edit(CROWDS[class_name].reference_sizes[0])["reference_images"]
        changes["fill-by-reference"] = filling(0.7, step_count=3, reference_images=beside)
    return changes


def begins_with_images(class_name: str) -> bool:
    """Whether a family does image to image."""
    return Task.IMAGE_TO_IMAGE in FAMILIES[class_name].tasks


def mixed(class_name: str, pipeline: Any, level: Reproducibility) -> list[ImageSpec]:
    """Requests of every kind that a family takes."""
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "prompt": "a blue house", "negative_prompt": "reds"},
        {"seeds": (3,), "guidance_scale": 1.0},
        {"seeds": (4,), "step_count": 3, "guidance_scale": 1.0, "prompt": "a RED circle"},
        {"seeds": (5,), "step_count": 3, "prompt": "a RED circle"},
        {"seeds": (6,), "step_count": 3},
    ]
    if begins_with_images(class_name):
        source = source_spec(strength=0.7)
        changes.append({"seeds": (7,), "task": Task.IMAGE_TO_IMAGE, "source": source})
    for number, change in enumerate(edits(class_name).values()):
        changes += [
            {**change, "seeds": (8 + number,), "step_count": 3},
            {**change, "seeds": (18 + number,), "step_count": 2, "guidance_scale": 2.0},
        ]
    for number, change in enumerate(fills(class_name).values()):
        changes += [
            {**change, "seeds": (28 + number,)},
            {**change, "seeds": (38 + number,), "step_count": 3, "guidance_scale": 2.0},
        ]
    return [spec_of(pipeline, **one, reproducibility=level) for one in changes]


def see_small_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits see their images a thousandth as large as with weights that have learned something."""
    for module in (
        pipeline_qwenimage_edit,
        pipeline_qwenimage_edit_inpaint,
        pipeline_qwenimage_edit_plus,
    ):
        true = module.calculate_dimensions

        def smaller(area: int, ratio: float, true: Any = true) -> Any:
            return true(area / 256, ratio)

        monkeypatch.setattr(module, "calculate_dimensions", smaller)
    sizes = [(64, 48), (48, 64), (64, 64)]
    for module in (pipeline_flux_kontext, pipeline_flux_kontext_inpaint, flux_kontext):
        monkeypatch.setattr(module, "PREFERRED_KONTEXT_RESOLUTIONS", sizes)


def _filler(crowd: Crowd, pipeline: Any) -> Any:
    own = (
        {"is_distilled": pipeline.config.is_distilled} if "is_distilled" in pipeline.config else {}
    )
    made = crowd.fill(**pipeline.components, **own)
    made.transformer.register_to_config(**UNSAID_SETTINGS.get(crowd.fill.__name__, {}))
    return made


def stock(class_name: str, pipeline: Any, spec: ImageSpec) -> np.ndarray:
    """The picture of the class's own code."""
    crowd = CROWDS[class_name]
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "width": spec.width_px,
        "height": spec.height_px,
        "num_inference_steps": spec.step_count,
        crowd.guidance: spec.guidance_scale,
        # Torch's own: pipelines leave the draws of a scheduler to it.
        "generator": torch.manual_seed(spec.seeds[0]),
        **crowd.constants,
    }
    kept = pipeline.scheduler
    used = pipeline
    if spec.task is Task.IMAGE_TO_IMAGE and spec.source is not None:
        used = crowd.image_to_image(**pipeline.components)
        arguments |= {"image": picture(spec.source.image), "strength": spec.source.strength}
    if spec.fill is not None:
        used = _filler(crowd, pipeline)
        arguments |= {"image": picture(spec.fill.image), "mask_image": picture(spec.fill.mask)}
        arguments["strength"] = spec.fill.strength
        if spec.reference_images:
            arguments["image_reference"] = picture(spec.reference_images[0])
    elif spec.reference_images:
        pictures = [picture(one) for one in spec.reference_images]
        arguments["image"] = pictures if crowd.most_references > 1 else pictures[0]
    if "max_area" in arguments:
        arguments["max_area"] = spec.width_px * spec.height_px
    taken = inspect.signature(used.__call__).parameters
    arguments = {name: one for name, one in arguments.items() if name in taken}
    used.set_progress_bar_config(disable=True)
    used.scheduler = getattr(diffusers, spec.scheduler).from_config(kept.config)
    try:
        return np.asarray(used(**arguments).images[0])
    finally:
        pipeline.scheduler = kept
