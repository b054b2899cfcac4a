"""The SDXL step model against the stock pipelines, pixel for pixel, for every scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FillSpec, ImageSpec, Pixels, SourceSpec, Task
from tests.parity.shared import stepped
from tests.parity.tiny_pipelines import random_sdxl

SCHEDULERS = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_sdxl(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return random_sdxl(tmp_path_factory.mktemp("tokenizer"), unet_channels=9)


@pytest.fixture(autouse=True)
def stock_scheduler_restored(pipeline: Any) -> Iterator[None]:
    kept = pipeline.scheduler
    yield
    pipeline.scheduler = kept


def made_by_steps(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    model = SdxlStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )
    return stepped(model, spec)


def image_spec(**changes: Any) -> ImageSpec:
    values: dict[str, Any] = {
        "task": Task.TEXT_TO_IMAGE,
        "prompt": "a red circle",
        "negative_prompt": None,
        "width_px": 64,
        "height_px": 64,
        "step_count": 4,
        "guidance_scale": 5.0,
        "scheduler": "EulerDiscreteScheduler",
        "seeds": (7,),
    }
    return ImageSpec(**(values | changes))


def fill_spec(*, strength: float = 1.0, preserve_unmasked: bool = False) -> FillSpec:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, 24:] = 255
    return FillSpec(
        image=Pixels(64, 64, 3, image.tobytes()),
        mask=Pixels(64, 64, 1, mask.tobytes()),
        strength=strength,
        preserve_unmasked=preserve_unmasked,
    )


def source_spec(*, strength: float) -> SourceSpec:
    return SourceSpec(image=fill_spec().image, strength=strength)


def made_by_stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    pipeline.scheduler = getattr(diffusers, spec.scheduler).from_config(pipeline.scheduler.config)
    # Unless told the type, from_pipe turns the parts that both pipelines share into FP32.
    dtype = pipeline.unet.dtype
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "width": spec.width_px,
        "height": spec.height_px,
        "num_inference_steps": spec.step_count,
        "guidance_scale": spec.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(spec.seeds[0]),
        "output_type": "pil",
    }
    if spec.fill is not None:
        fill = spec.fill
        if not isinstance(pipeline, StableDiffusionXLInpaintPipeline):
            pipeline = StableDiffusionXLInpaintPipeline.from_pipe(pipeline, torch_dtype=dtype)
            pipeline.set_progress_bar_config(disable=True)
        arguments |= {
            "image": Image.frombytes("RGB", (64, 64), fill.image.data),
            "mask_image": Image.frombytes("L", (64, 64), fill.mask.data),
            "strength": fill.strength,
        }
    if spec.source is not None:
        pipeline = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline, torch_dtype=dtype)
        pipeline.set_progress_bar_config(disable=True)
        del arguments["width"], arguments["height"]
        arguments |= {"image": picture(spec.source.image), "strength": spec.source.strength}
    return np.asarray(pipeline(**arguments).images[0])


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_evaluations_are_counted_without_the_device(pipeline: Any, scheduler: str) -> None:
    """Admission asks for them from another thread than the device's."""
    model = SdxlStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )
    spec = image_spec(scheduler=scheduler)
    evaluation_count = len(model.schedule(spec, 0).timesteps)
    model._device = torch.device("cuda:99")
    with pytest.raises((RuntimeError, AssertionError)):
        model.schedule(spec, 0)
    assert model.evaluations(spec) == evaluation_count


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"negative_prompt": "blue"}, id="negative-prompt"),
        pytest.param({"negative_prompt": ""}, id="empty-negative-prompt"),
        pytest.param({"guidance_scale": 1.0, "step_count": 7}, id="without-guidance"),
        pytest.param({"width_px": 96, "height_px": 48, "seeds": (0,)}, id="wide"),
    ],
)
def test_text_to_image_equals_stock(pipeline: Any, scheduler: str, changes: dict[str, Any]) -> None:
    spec = image_spec(scheduler=scheduler, **changes)
    np.testing.assert_array_equal(made_by_steps(pipeline, spec), made_by_stock(pipeline, spec))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.3])
def test_image_to_image_equals_stock(pipeline: Any, scheduler: str, strength: float) -> None:
    source = source_spec(strength=strength)
    spec = image_spec(task=Task.IMAGE_TO_IMAGE, source=source, scheduler=scheduler)
    np.testing.assert_array_equal(made_by_steps(pipeline, spec), made_by_stock(pipeline, spec))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_fill_equals_stock(pipeline: Any, scheduler: str, strength: float) -> None:
    spec = image_spec(task=Task.FILL, fill=fill_spec(strength=strength), scheduler=scheduler)
    np.testing.assert_array_equal(made_by_steps(pipeline, spec), made_by_stock(pipeline, spec))


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_fill_by_nine_channels_equals_stock(inpainting: Any, strength: float) -> None:
    spec = image_spec(task=Task.FILL, fill=fill_spec(strength=strength))
    np.testing.assert_array_equal(made_by_steps(inpainting, spec), made_by_stock(inpainting, spec))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="text-to-image"),
        pytest.param({"task": Task.FILL, "fill": fill_spec(strength=0.6)}, id="fill"),
        pytest.param(
            {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.6)}, id="image-to-image"
        ),
    ],
)
def test_statistics_of_the_latents_are_used_as_in_stock(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    pipeline = random_sdxl(tmp_path, has_statistics=True)
    spec = image_spec(scheduler="EDMDPMSolverMultistepScheduler", step_count=5, **changes)
    pipeline.scheduler = EDMDPMSolverMultistepScheduler()
    np.testing.assert_array_equal(made_by_steps(pipeline, spec), made_by_stock(pipeline, spec))


def test_preserve_unmasked_keeps_every_pixel_outside_the_mask(pipeline: Any) -> None:
    spec = image_spec(task=Task.FILL, fill=fill_spec(preserve_unmasked=True))
    assert spec.fill is not None
    original = np.frombuffer(spec.fill.image.data, dtype=np.uint8).reshape(64, 64, 3)
    made = made_by_steps(pipeline, spec)
    np.testing.assert_array_equal(made[:, :24], original[:, :24])
    # Behind the soft edge, which is a pixel wide at this size, it is the pipeline's own.
    np.testing.assert_array_equal(made[:, 25:], made_by_stock(pipeline, spec)[:, 25:])


def test_schedulers_do_not_stick(pipeline: Any) -> None:
    before = made_by_steps(pipeline, image_spec())
    made_by_steps(pipeline, image_spec(scheduler="DDIMScheduler"))
    np.testing.assert_array_equal(made_by_steps(pipeline, image_spec()), before)
