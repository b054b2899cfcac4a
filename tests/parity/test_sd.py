"""Stable Diffusion 1 and 2 against the stock pipelines, alone and at each level shared."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image

from darkroom_server.backends.diffusers.families.sd import SdStepModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage, Reproducibility, Task
from darkroom_server.domain.models import Placement
from darkroom_server.worker.messages import JobReport, Report, SubmitJob
from darkroom_server.worker.step_runner import step_loop
from tests.parity.device import loads_onto_the_processor
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
    stepped,
)
from tests.parity.test_sdxl_steps import SCHEDULERS, fill_spec, image_spec, source_spec
from tests.parity.test_whole_request import version_of
from tests.parity.tiny_pipelines import random_sd

PREDICTIONS = ["epsilon", "v_prediction"]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    return {
        "epsilon": random_sd(folder),
        "v_prediction": random_sd(folder, prediction="v_prediction"),
        "nine-channels": random_sd(folder, unet_channels=9),
        "bf16": random_sd(folder).to(torch.bfloat16),
    }


def build(pipeline: Any) -> SdStepModel:
    return SdStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    kind = type(pipeline)
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "negative_prompt": spec.negative_prompt,
        "num_inference_steps": spec.step_count,
        "guidance_scale": spec.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(spec.seeds[0]),
    }
    if spec.source is None:
        arguments |= {"width": spec.width_px, "height": spec.height_px}
    else:
        kind = StableDiffusionImg2ImgPipeline
        arguments |= {"image": picture(spec.source.image), "strength": spec.source.strength}
    if spec.fill is not None:
        kind = StableDiffusionInpaintPipeline
        arguments |= {
            "image": picture(spec.fill.image),
            "mask_image": picture(spec.fill.mask),
            "strength": spec.fill.strength,
        }
    scheduler = getattr(diffusers, spec.scheduler).from_config(pipeline.scheduler.config)
    parts = pipeline.components | {"scheduler": scheduler}
    used = kind(**parts, requires_safety_checker=False)
    used.set_progress_bar_config(disable=True)
    return np.asarray(used(**arguments).images[0])


def assert_alone_equals_stock(pipeline: Any, spec: ImageSpec) -> None:
    np.testing.assert_array_equal(stepped(build(pipeline), spec), stock(pipeline, spec))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_text_to_image_equals_stock(
    pipelines: dict[str, Any], prediction: str, scheduler: str
) -> None:
    assert_alone_equals_stock(pipelines[prediction], image_spec(scheduler=scheduler))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"negative_prompt": "blue"}, id="negative-prompt"),
        pytest.param({"negative_prompt": "", "prompt": ""}, id="empty-prompts"),
        pytest.param({"guidance_scale": 1.0, "step_count": 7}, id="without-guidance"),
        pytest.param({"width_px": 96, "height_px": 48, "seeds": (0,)}, id="wide"),
        pytest.param({"step_count": 1}, id="one-step"),
    ],
)
def test_text_to_image_equals_stock_with(
    pipelines: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert_alone_equals_stock(pipelines["epsilon"], image_spec(**changes))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.3])
def test_image_to_image_equals_stock(
    pipelines: dict[str, Any], scheduler: str, strength: float
) -> None:
    source = source_spec(strength=strength)
    spec = image_spec(task=Task.IMAGE_TO_IMAGE, source=source, scheduler=scheduler)
    assert_alone_equals_stock(pipelines["epsilon"], spec)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("name", ["v_prediction", "nine-channels"])
def test_fill_equals_stock(
    pipelines: dict[str, Any], name: str, scheduler: str, strength: float
) -> None:
    spec = image_spec(task=Task.FILL, fill=fill_spec(strength=strength), scheduler=scheduler)
    assert_alone_equals_stock(pipelines[name], spec)


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
def test_in_bf16_it_equals_stock(pipelines: dict[str, Any], changes: dict[str, Any]) -> None:
    assert_alone_equals_stock(pipelines["bf16"], image_spec(step_count=7, **changes))


@loads_onto_the_processor
@pytest.mark.parametrize("objects", [True, False])
def test_what_the_safety_checker_objects_to_is_black_as_in_stock(
    tmp_path: Path, objects: bool
) -> None:
    pipeline = random_sd(tmp_path, checked=True)
    pipeline.safety_checker.concept_embeds_weights.fill_(-10.0 if objects else 10.0)
    pipeline.safety_checker.special_care_embeds_weights.fill_(10.0)
    made = stepped(build(pipeline), image_spec())
    np.testing.assert_array_equal(made, stock(pipeline, image_spec()))
    assert made.any() != objects
    version = version_of(tmp_path / "repository", pipeline)
    assert version.model.parameters["preview"] is False
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    loaded = type(pipeline).from_pretrained(version.path)
    spec = image_spec(width_px=96)
    np.testing.assert_array_equal(stepped(model, spec), stock(loaded, spec))
    assert stepped(model, spec).any() != objects


@pytest.mark.parametrize("objects", [True, False])
def test_the_answer_tells_which_images_the_safety_checker_made_black(
    tmp_path: Path, objects: bool
) -> None:
    pipeline = random_sd(tmp_path, checked=True)
    pipeline.safety_checker.concept_embeds_weights.fill_(-10.0 if objects else 10.0)
    pipeline.safety_checker.special_care_embeds_weights.fill_(10.0)
    reports: list[Report] = []
    loop = step_loop(build(pipeline), reports.append, max_batch_size=8)
    fill = fill_spec(preserve_unmasked=True)
    for number, spec in enumerate([image_spec(), image_spec(task=Task.FILL, fill=fill)]):
        loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
    loop.run_to_end()
    images = [
        report.event
        for report in reports
        if isinstance(report, JobReport) and isinstance(report.event, JobImage)
    ]
    assert [image.is_filtered for image in images] == [objects] * 2
    for image in images:
        assert np.asarray(Image.open(io.BytesIO(image.content))).any() != objects


@loads_onto_the_processor
@pytest.mark.parametrize("name", ["v_prediction", "nine-channels"])
def test_a_folder_is_found_loaded_and_run(
    pipelines: dict[str, Any], tmp_path: Path, name: str
) -> None:
    version = version_of(tmp_path, pipelines[name])
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    assert isinstance(model, SdStepModel)
    spec = image_spec(task=Task.FILL, fill=fill_spec(strength=0.6))
    # Loaded as well: a file keeps defaults of its scheduler's, which others then take over.
    loaded = type(pipelines[name]).from_pretrained(version.path)
    np.testing.assert_array_equal(stepped(model, spec), stock(loaded, spec))


def mixed(name: str, level: Reproducibility) -> list[ImageSpec]:
    fill: dict[str, Any] = {"task": Task.FILL, "fill": fill_spec(strength=0.6)}
    changes: list[dict[str, Any]] = [
        *({"scheduler": one, "seeds": (k,)} for k, one in enumerate(SCHEDULERS)),
        {"guidance_scale": 1.0, "step_count": 7, "seeds": (20,)},
        {"guidance_scale": 9.0, "step_count": 2, "seeds": (21,), "negative_prompt": "blue"},
        {**fill, "seeds": (22,), "step_count": 6},
        {"width_px": 96, "seeds": (24,)},
    ]
    if name == "nine-channels":
        changes = [{"task": Task.FILL, "fill": fill_spec()} | one for one in changes]
    else:
        source = source_spec(strength=0.7)
        changes.append({"task": Task.IMAGE_TO_IMAGE, "source": source, "seeds": (25,)})
    return [image_spec(**one, reproducibility=level) for one in changes]


SHARED = ["epsilon", "v_prediction", "nine-channels"]


@pytest.mark.parametrize("name", SHARED)
def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = mixed(name, Reproducibility.EXACT)
    made = shared_exactly(build(pipelines[name]), specs, monkeypatch)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", SHARED)
def test_shared_steps_stay_within_the_tolerance(pipelines: dict[str, Any], name: str) -> None:
    specs = mixed(name, Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(build(pipelines[name]), specs), specs, strict=True):
        assert_within_tolerance(made, stock(pipelines[name], spec))


@pytest.mark.parametrize("name", ["epsilon", "nine-channels"])
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: dict[str, Any], name: str
) -> None:
    specs = mixed(name, Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: build(pipelines[name]), specs)
