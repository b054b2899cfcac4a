"""Pipelines without a step family, run whole, against the stock pipelines run by themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.pipeline_arguments import guidance_arguments
from darkroom_server.backends.diffusers.whole_request import (
    WholeRequestModel,
    reason_against_class,
)
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.errors import ModelUnavailable, UnsupportedParameter
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage, Reproducibility, Task
from darkroom_server.domain.models import Placement, VersionInfo
from darkroom_server.domain.whole_pipelines import refusal_of
from darkroom_server.pipelines.pipeline_calls import known_calls
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.messages import CancelJob, JobReport, Report, SubmitJob
from darkroom_server.worker.request_runner import request_loop
from tests.parity.shared import assert_within_tolerance
from tests.parity.test_sdxl_steps import fill_spec, image_spec
from tests.parity.tiny_whole import random_inpainting, random_lcm, random_pixart, random_qwen

#: Steps, guidance and prompts of requests that run together.
TOGETHER: list[dict[str, Any]] = [
    {"prompt": "a red circle", "seeds": (7,)},
    {"prompt": "a house", "seeds": (8, 9)},
    {"prompt": "", "seeds": (2**32 - 1,)},
]


@pytest.fixture(scope="module")
def lcm(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_lcm(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return random_inpainting(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def pixart() -> Any:
    torch.set_num_threads(1)
    return random_pixart()


@pytest.fixture(scope="module")
def qwen() -> Any:
    torch.set_num_threads(1)
    return random_qwen()


@pytest.fixture(params=["lcm", "pixart", "inpainting"])
def pipeline(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def spec_for(pipeline: Any, **changes: Any) -> ImageSpec:
    values: dict[str, Any] = {"scheduler": type(pipeline.scheduler).__name__}
    if type(pipeline).__name__ == "StableDiffusionInpaintPipeline":
        values |= {"task": Task.FILL, "fill": fill_spec()}
    return image_spec(**(values | changes))


def guidance_name(pipeline: Any) -> str:
    return "true_cfg_scale" if type(pipeline).__name__.startswith("Qwen") else "guidance_scale"


def made_by_stock(pipeline: Any, spec: ImageSpec) -> list[np.ndarray]:
    """Each image by a call of its own, with nothing given as a list."""
    arguments: dict[str, Any] = {
        "prompt": spec.prompt,
        "width": spec.width_px,
        "height": spec.height_px,
        "num_inference_steps": spec.step_count,
        guidance_name(pipeline): spec.guidance_scale,
    }
    if spec.negative_prompt is not None:
        arguments["negative_prompt"] = spec.negative_prompt
    if spec.fill is not None:
        arguments |= {
            "image": Image.frombytes("RGB", (64, 64), spec.fill.image.data),
            "mask_image": Image.frombytes("L", (64, 64), spec.fill.mask.data),
            "strength": spec.fill.strength,
        }
    return [
        np.asarray(
            pipeline(**arguments, generator=torch.Generator("cpu").manual_seed(seed)).images[0]
        )
        for seed in spec.seeds
    ]


def served(
    pipeline: Any, specs: Sequence[ImageSpec], *, max_batch_size: int = 8
) -> tuple[list[np.ndarray], list[int]]:
    """The images of requests that come at once, in their order, and the images of each run."""
    reports: list[Report] = []
    model = WholeRequestModel(pipeline, allowed_schedulers=())
    run, run_image_counts = model.run, []

    def counted(specs: Sequence[ImageSpec], on_step: Any) -> Any:
        run_image_counts.append(sum(len(spec.seeds) for spec in specs))
        return run(specs, on_step)

    model.run = counted  # type: ignore[method-assign]
    loop = request_loop(
        model, reports.append, max_batch_size=max_batch_size, batching=DynamicBatching()
    )
    for number, spec in enumerate(specs):
        loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
    loop.run_to_end()
    images = {
        (report.job_id, report.event.image_index): np.asarray(
            Image.open(io.BytesIO(report.event.content))
        )
        for report in reports
        if isinstance(report, JobReport) and isinstance(report.event, JobImage)
    }
    return [images[str(k), i] for k, spec in enumerate(specs) for i in range(len(spec.seeds))], (
        run_image_counts
    )


def together(pipeline: Any, level: Reproducibility) -> list[ImageSpec]:
    return [spec_for(pipeline, **changes, reproducibility=level) for changes in TOGETHER]


def test_alone_every_image_equals_the_stock_pipelines(pipeline: Any) -> None:
    specs = together(pipeline, Reproducibility.EXACT)
    made, run_image_counts = served(pipeline, specs)
    wanted = [image for spec in specs for image in made_by_stock(pipeline, spec)]
    assert run_image_counts == [1, 1, 1, 1]
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_together_every_image_is_within_the_tolerance(pipeline: Any) -> None:
    specs = together(pipeline, Reproducibility.TOLERANCE)
    made, run_image_counts = served(pipeline, specs)
    wanted = [image for spec in specs for image in made_by_stock(pipeline, spec)]
    assert run_image_counts == [4]
    for one, other in zip(made, wanted, strict=True):
        assert_within_tolerance(one, other)


def test_requests_that_differ_in_more_than_prompts_and_seeds_do_not_run_together(
    pixart: Any,
) -> None:
    specs = [
        spec_for(pixart, reproducibility=Reproducibility.TOLERANCE, **changes)
        for changes in (
            {},
            {"guidance_scale": 4.0},
            {"step_count": 3},
            {"width_px": 32},
            {"negative_prompt": "blue"},
            {"prompt": "a star", "seeds": (1,)},
        )
    ]
    made, run_image_counts = served(pixart, specs)
    assert run_image_counts == [2, 1, 1, 1, 1]
    for one, spec in zip(made, specs, strict=True):
        assert_within_tolerance(one, made_by_stock(pixart, spec)[0])


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"negative_prompt": "blue"}, id="negative-prompt"),
        pytest.param({"negative_prompt": ""}, id="empty-negative-prompt"),
        pytest.param({"fill": fill_spec(strength=0.6), "step_count": 5}, id="strength"),
    ],
)
def test_fill_equals_stock(inpainting: Any, changes: dict[str, Any]) -> None:
    spec = spec_for(inpainting, **changes)
    (made,), _ = served(inpainting, [spec])
    np.testing.assert_array_equal(made, made_by_stock(inpainting, spec)[0])


def test_preserve_unmasked_keeps_every_pixel_outside_the_mask(inpainting: Any) -> None:
    spec = spec_for(inpainting, fill=fill_spec(preserve_unmasked=True))
    assert spec.fill is not None
    (made,), _ = served(inpainting, [spec])
    original = np.frombuffer(spec.fill.image.data, dtype=np.uint8).reshape(64, 64, 3)
    np.testing.assert_array_equal(made[:, :24], original[:, :24])
    # Behind the soft edge, which is a pixel wide at this size, it is the pipeline's own.
    stock = made_by_stock(inpainting, spec)[0]
    np.testing.assert_array_equal(made[:, 25:], stock[:, 25:])
    between = np.stack([original[:, 24], stock[:, 24]])
    assert (made[:, 24] >= between.min(axis=0)).all()
    assert (made[:, 24] <= between.max(axis=0)).all()


def test_a_cancelled_run_stops_within_two_steps_and_spoils_no_later_one(pipeline: Any) -> None:
    reports: list[Report] = []
    steps: list[int] = []
    model = WholeRequestModel(pipeline, allowed_schedulers=())
    loop = request_loop(model, reports.append, max_batch_size=8, batching=DynamicBatching())
    spec = spec_for(pipeline, step_count=20)
    run = model.run

    def cancelling(specs: Sequence[ImageSpec], on_step: Callable[[int, int], None]) -> Any:
        def stepped(done: int, total: int) -> None:
            steps.append(done)
            if done == 3:
                loop.post(CancelJob("a"))
            on_step(done, total)

        return run(specs, stepped)

    model.run = cancelling  # type: ignore[method-assign]
    loop.post(SubmitJob(Job(job_id="a", spec=spec)))
    loop.run_to_end()
    assert 3 <= steps[-1] <= 5
    assert not [r for r in reports if isinstance(r, JobReport) and isinstance(r.event, JobImage)]
    (made,), _ = served(pipeline, [spec_for(pipeline)])
    np.testing.assert_array_equal(made, made_by_stock(pipeline, spec_for(pipeline))[0])


def test_a_parameter_that_a_pipeline_does_not_take_is_refused(lcm: Any) -> None:
    model = WholeRequestModel(lcm, allowed_schedulers=())
    with pytest.raises(UnsupportedParameter, match="no negative prompt"):
        model.compatible_key(spec_for(lcm, negative_prompt="blue"))
    with pytest.raises(UnsupportedParameter, match="no mask"):
        model.compatible_key(spec_for(lcm, task=Task.FILL, fill=fill_spec()))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("PixArtSigmaPipeline", None, id="text-to-image"),
        pytest.param("StableDiffusionInpaintPipeline", None, id="inpainting"),
        pytest.param("WanPipeline", "makes frames", id="video"),
        pytest.param("FluxImg2ImgPipeline", None, id="image-to-image"),
        pytest.param("DDPMPipeline", "takes no prompt", id="without-a-text"),
        pytest.param("KandinskyPipeline", "needs image_embeds", id="embeddings"),
        pytest.param("CogVideoXVideoToVideoPipeline", "makes frames", id="video-to-video"),
        pytest.param("FluxControlInpaintPipeline", None, id="image-mask-and-control-image"),
        pytest.param(
            "StableDiffusionXLControlNetUnionPipeline", "needs control_mode", id="control-mode"
        ),
        pytest.param("UNet2DModel", "is no pipeline", id="a-model"),
        pytest.param("NoSuchPipeline", "is no pipeline", id="unknown"),
    ],
)
def test_only_pipelines_that_make_one_picture_of_words_are_run(
    name: str, reason: str | None
) -> None:
    found = reason_against_class(name)
    assert (found or "").startswith(reason or "")
    assert (found is None) == (reason is None)


@pytest.mark.parametrize("guidance_scale", [1.0, 7.0])
def test_guidance_of_another_name_equals_stock(qwen: Any, guidance_scale: float) -> None:
    spec = spec_for(qwen, negative_prompt="blue", guidance_scale=guidance_scale)
    (made,), _ = served(qwen, [spec])
    np.testing.assert_array_equal(made, made_by_stock(qwen, spec)[0])
    (other,), _ = served(qwen, [spec_for(qwen, negative_prompt="blue", guidance_scale=3.0)])
    assert (made != other).any()


def test_every_class_that_is_run_is_given_its_guidance() -> None:
    """By the one name that leads, whatever it is called."""
    of_two = {
        "QwenImagePipeline": {"true_cfg_scale": 3.0},
        "Ideogram4Pipeline": {"guidance_scale": 3.0, "guidance_schedule": None},
        "HunyuanImagePipeline": {"distilled_guidance_scale": 3.0},
        "StableCascadeCombinedPipeline": {"prior_guidance_scale": 3.0},
        "ChromaPipeline": {"guidance_scale": 3.0},
    }
    calls = known_calls()
    for name, wanted in of_two.items():
        assert guidance_arguments(calls[name], 3.0) == wanted, name
    for name, call in calls.items():
        if refusal_of(name, call) is None:
            given = guidance_arguments(call, 3.0)
            assert list(given.values()).count(3.0) == bool(given), name
            assert given.keys() <= call.arguments, name
    both = guidance_arguments(calls["QwenImagePipeline"], 3.0, embeds_guidance=True)
    assert both == {"true_cfg_scale": 3.0, "guidance_scale": 3.0}


def version_of(folder: Path, pipeline: Any, **index: str) -> VersionInfo:
    """A version in a repository, as the server finds it."""
    pipeline.save_pretrained(folder / "m" / "1")
    file = folder / "m" / "1" / "model_index.json"
    for old, new in index.items():
        file.write_text(file.read_text().replace(old, new))
    (model,) = ModelRepository(folder).scan().models
    return model.versions[0]


def test_a_pipeline_without_a_family_is_found_loaded_and_run(lcm: Any, tmp_path: Path) -> None:
    version = version_of(tmp_path, lcm)
    model = load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
    assert isinstance(model, RequestModel)
    assert model.dtype().value == "fp32"
    assert model.memory_bytes() > version.weight_bytes / 2
    spec = spec_for(lcm)
    ((made,),) = model.run([spec], lambda _, __: None)
    np.testing.assert_array_equal(made, made_by_stock(lcm, spec)[0])


def test_a_class_that_diffusers_does_not_have_does_not_load(lcm: Any, tmp_path: Path) -> None:
    version = version_of(tmp_path, lcm, LatentConsistencyModelPipeline="NoSuchPipeline")
    with pytest.raises(ModelUnavailable, match=r"NoSuchPipeline is no pipeline"):
        load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))
