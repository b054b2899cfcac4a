"""Requests that fail with their own error, and leave the model as it was for the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.whole_request import WholeRequestModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import GenerationFailed, InvalidParameter
from darkroom_server.domain.jobs import Task
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import SCHEDULERS, fill_spec, image_spec, source_spec
from tests.parity.tiny_pipelines import random_sdxl
from tests.parity.tiny_whole import random_pixart


def model_of(pipeline: Any) -> SdxlStepModel:
    return SdxlStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


@pytest.fixture
def pipeline(tmp_path: Path) -> Any:
    torch.set_num_threads(1)
    return random_sdxl(tmp_path)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("step_count", [1, 2, 3])
def test_few_steps_are_made_or_refused_by_name(
    pipeline: Any, scheduler: str, step_count: int
) -> None:
    spec = image_spec(scheduler=scheduler, step_count=step_count)
    if scheduler != "PNDMScheduler":
        assert stepped(model_of(pipeline), spec).shape == (64, 64, 3)
        return
    with pytest.raises(InvalidParameter, match="below the 4") as caught:
        model_of(pipeline).evaluations(spec)
    assert caught.value.field == "step_count"


def test_without_its_long_start_pndm_takes_a_single_step(pipeline: Any) -> None:
    pipeline.scheduler.register_to_config(skip_prk_steps=True)
    spec = image_spec(scheduler="PNDMScheduler", step_count=1)
    assert stepped(model_of(pipeline), spec).shape == (64, 64, 3)


@pytest.mark.parametrize("of_pixels", [False, True], ids=["latents", "pixels"])
def test_what_is_not_finite_is_no_picture(pipeline: Any, of_pixels: bool) -> None:
    model, spec = model_of(pipeline), image_spec()
    one = model.begin(spec, model.encode(spec), 0)
    if of_pixels:
        model.decoder = lambda latents: torch.full((1, 3, 64, 64), float("inf")) + latents.mean()
    else:
        one.latents = torch.full_like(one.latents, float("nan"))
    with pytest.raises(GenerationFailed, match="not finite"):
        model.decode(one)


def test_a_pipeline_run_whole_makes_no_picture_of_it_either() -> None:
    torch.set_num_threads(1)
    pipeline = random_pixart()
    pipeline.vae.decoder.conv_out.bias.data.fill_(float("nan"))
    spec = image_spec(scheduler=type(pipeline.scheduler).__name__)
    with pytest.raises(GenerationFailed, match="not finite"):
        WholeRequestModel(pipeline, allowed_schedulers=()).run([spec], lambda _, __: None)


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        pytest.param("decode", {}, id="decoding"),
        pytest.param("encode", {"task": Task.FILL, "fill": fill_spec(strength=0.6)}, id="fill"),
        pytest.param(
            "encode",
            {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.6)},
            id="image-to-image",
        ),
    ],
)
def test_a_vae_that_fails_in_full_precision_is_back_in_half(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, part: str, changes: dict[str, Any]
) -> None:
    pipeline.vae.register_to_config(force_upcast=True)
    model = model_of(pipeline.to(torch.float16))
    wanted = stepped(model, image_spec())

    def out_of_memory(*_: Any, **__: Any) -> None:
        assert pipeline.vae.dtype == torch.float32
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.vae, part, out_of_memory)
        with pytest.raises(MemoryError):
            stepped(model, image_spec(**changes))
    assert pipeline.vae.dtype == torch.float16
    np.testing.assert_array_equal(stepped(model, image_spec()), wanted)
