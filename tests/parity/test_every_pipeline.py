"""Every pipeline of the installed diffusers that makes pictures: served as it is, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.diffusers.pipeline_arguments import guidance_arguments
from darkroom_server.backends.diffusers.pipeline_inspection import (
    inspected_call,
    pipeline_classes,
)
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, SourceSpec, Task
from darkroom_server.domain.models import ModelInfo, Placement, VersionInfo
from darkroom_server.domain.pipeline_call import PipelineCall
from darkroom_server.domain.references import REFERENCE_RULES
from darkroom_server.domain.whole_pipelines import (
    JSON_PROMPTS,
    MASKS,
    NEEDS,
    NEEDS_PACKAGE,
    PICTURES,
    STEPS,
    UNSAID_SETTINGS,
    UNTRIED,
    USUAL_VALUES,
    beside_of,
    refusal_of,
    tasks_of,
    trial_prompt,
)
from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.pipelines.pipeline_calls import known_calls
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.warmup import warm_up
from tests.parity.device import loads_onto_the_processor
from tests.parity.pipeline_kits import build, kit_of

#: One of each kind of parts and of call; the others are slow tests (`make pipelines`).
SHORT = (
    "FluxImg2ImgPipeline",
    "PixArtSigmaPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionUpscalePipeline",
)
STEP_COUNT, EDGE_PX = 2, 64


def served_classes() -> list[Any]:
    """Those that Darkroom says it serves whole, of which a small one can be built."""
    return [
        pytest.param(name, marks=() if name in SHORT else pytest.mark.slow)
        for name, call in known_calls().items()
        if name not in FAMILIES and refusal_of(name, call) is None and kit_of(name) is not None
    ]


def test_the_table_is_that_of_the_installed_diffusers() -> None:
    found = {name: inspected_call(kind) for name, kind in pipeline_classes()}
    assert found == dict(known_calls()), "run `make reference`"


def test_the_table_says_which_classes_are_not_compared() -> None:
    served = {
        name
        for name, call in known_calls().items()
        if name not in FAMILIES and name not in NEEDS_PACKAGE and refusal_of(name, call) is None
    }
    assert {name for name in served if kit_of(name) is None} == UNTRIED
    told = {*UNTRIED, *NEEDS_PACKAGE, *REFERENCE_RULES, *NEEDS}
    told |= {*USUAL_VALUES, *JSON_PROMPTS, *UNSAID_SETTINGS}
    assert told <= known_calls().keys()


def version_of(folder: Path, pipeline: Any) -> VersionInfo:
    """A version in a repository, as the server finds it."""
    pipeline.save_pretrained(folder / "m" / "1")
    scan = ModelRepository(folder).scan()
    assert scan.models, [str(one) for one in scan.problems]
    return scan.models[0].versions[0]


def fill_of(edge_px: int) -> FillSpec:
    """Noise to repaint the right half of."""
    image = np.random.default_rng(3).integers(0, 256, (edge_px, edge_px, 3), dtype=np.uint8)
    mask = np.zeros((edge_px, edge_px), dtype=np.uint8)
    mask[:, edge_px // 2 :] = 255
    return FillSpec(
        image=Pixels(edge_px, edge_px, 3, image.tobytes()),
        mask=Pixels(edge_px, edge_px, 1, mask.tobytes()),
        strength=1.0,
        preserve_unmasked=False,
    )


def spec_of(info: ModelInfo, task: Task) -> ImageSpec:
    """Two steps, of a size that is not the smallest where the model draws larger ones."""
    edge_px = min(info.limits.max_size_px, max(EDGE_PX, info.limits.min_size_px))
    given = fill_of(edge_px)
    values: dict[str, Any] = {"fill": None, "source": None}
    if task is Task.FILL:
        values["fill"] = given
    elif task is Task.IMAGE_TO_IMAGE:
        values["source"] = SourceSpec(image=given.image, strength=1.0)
    elif task is Task.EDIT:
        rule = REFERENCE_RULES[info.pipeline_class]
        values["reference_images"] = (_wide(given.image), given.image)[: rule.max_count]
    if info.references is not None and info.references.is_beside:
        beside = given.mask if info.references.fits_output else _wide(given.image)
        shown = picture(beside).convert("RGB")
        values["reference_images"] = (Pixels(*shown.size, 3, shown.tobytes()),)
    return ImageSpec(
        task=task,
        prompt=trial_prompt(info.pipeline_class) or "a red circle",
        negative_prompt=None,
        width_px=edge_px,
        height_px=edge_px,
        step_count=STEP_COUNT,
        guidance_scale=3.0,
        scheduler=info.defaults.scheduler,
        seeds=(7,),
        **values,
    )


def _wide(image: Pixels) -> Pixels:
    """The same in another shape, whose edges are multiples of nothing."""
    resized = picture(image).resize((image.width_px + 33, image.height_px + 7))
    return Pixels(*resized.size, 3, resized.tobytes())


def made_by_stock(pipeline: Any, call: PipelineCall, spec: ImageSpec) -> Any:
    """The picture of the class's own code, with what a person would give it.

    With the weights that were loaded: where others lie in memory, kernels may round otherwise.
    """
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "generator": torch.Generator("cpu").manual_seed(spec.seeds[0]),
        call.first_of(*STEPS) or "": spec.step_count,
        **guidance_arguments(call, spec.guidance_scale),
    }
    sizes = {"width": spec.width_px, "height": spec.height_px}
    sizes["max_area"] = spec.width_px * spec.height_px
    arguments |= {name: px for name, px in sizes.items() if name in call.arguments}
    if "use_resolution_binning" in call.arguments:
        # The small ones are made for none of the sizes that have bins.
        arguments["use_resolution_binning"] = False
    arguments |= USUAL_VALUES.get(type(pipeline).__name__, {})
    if (beside := beside_of(call)) is not None:
        arguments[beside] = picture(spec.reference_images[0])
    elif spec.reference_images:
        shown = [picture(one) for one in spec.reference_images]
        takes_lists = REFERENCE_RULES[type(pipeline).__name__].max_count > 1
        arguments[call.first_of(*PICTURES) or ""] = shown if takes_lists else shown[0]
    if (given := spec.fill or spec.source) is not None:
        arguments[call.first_of(*PICTURES) or ""] = picture(given.image)
        if "strength" in call.arguments:
            arguments["strength"] = given.strength
    if isinstance(given, FillSpec):
        arguments[call.first_of(*MASKS) or ""] = picture(given.mask)
    torch.manual_seed(spec.seeds[0])
    output = pipeline(**arguments)
    return (output.images if hasattr(output, "images") else output.image)[0]


@loads_onto_the_processor
@pytest.mark.parametrize("name", served_classes())
def test_it_is_served_with_the_stock_pipelines_pixels(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pipeline = build(getattr(diffusers, name), tmp_path / "words")
    version = version_of(tmp_path / "models", pipeline)
    info, call = version.model, inspected_call(type(pipeline))
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    warm_up(model, info, lambda _, __: None)
    assert isinstance(model, RequestModel)
    assert info.tasks == tasks_of(name, call)
    for task in sorted(info.tasks, key=lambda one: one.value):
        spec = spec_of(info, task)
        ((made,),) = model.run([spec], lambda _, __: None)
        stock = model._pipeline  # type: ignore[attr-defined]
        for part, scheduler in model._fresh_schedulers(spec).items():  # type: ignore[attr-defined]
            setattr(stock, part, scheduler)
        wanted = np.asarray(made_by_stock(stock, call, spec).convert("RGB"))
        np.testing.assert_array_equal(made, wanted)
