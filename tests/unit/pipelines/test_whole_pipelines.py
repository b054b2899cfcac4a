"""Pipelines without a family: what follows from what their classes take and give."""

from __future__ import annotations

import pytest

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.references import BESIDE_RULES
from darkroom_server.domain.whole_pipelines import lacks_of_prompt, trial_prompt
from darkroom_server.model_config.model_info import combine
from darkroom_server.model_config.settings import ModelSettings
from darkroom_server.pipelines.pipeline_calls import known_calls
from darkroom_server.pipelines.traits import UnsupportedPipeline, derive_traits
from tests.unit.pipelines.test_traits import whole


@pytest.mark.parametrize(
    ("class_name", "message"),
    [
        ("WanPipeline", "makes frames: Darkroom makes pictures only"),
        ("DDPMPipeline", "takes no prompt: requests describe pictures in words"),
        ("KandinskyPipeline", "needs image_embeds, which no request has: use"),
        ("StableDiffusionXLControlNetUnionInpaintPipeline", "needs control_mode"),
        ("OnnxStableDiffusionPipeline", "another runtime than torch: export"),
    ],
)
def test_a_class_is_refused_with_what_would_help(class_name: str, message: str) -> None:
    with pytest.raises(UnsupportedPipeline, match=message) as caught:
        derive_traits(whole(class_name))
    assert class_name in str(caught.value)


def test_defaults_of_a_class_without_a_family_are_those_of_its_signature() -> None:
    bria = derive_traits(whole("BriaPipeline")).defaults
    assert (bria.step_count, bria.guidance_scale) == (30, 5.0)
    sprint = derive_traits(whole("SanaSprintPipeline")).defaults
    assert (sprint.step_count, sprint.guidance_scale) == (2, 4.5)


def test_a_class_without_guidance_or_negative_prompt_does_not_take_them() -> None:
    parameters = derive_traits(whole("SanaSprintPipeline")).parameters
    assert "negative_prompt" not in parameters
    assert parameters["guidance_scale"]


def test_a_class_with_a_control_image_takes_it_beside_the_one_to_change() -> None:
    control = derive_traits(
        whole("StableDiffusionControlNetImg2ImgPipeline", unet={}, controlnet={})
    )
    assert control.tasks == {Task.IMAGE_TO_IMAGE}
    assert control.references == BESIDE_RULES["control_image"]
    assert control.parameters["reference_images"]
    assert "reference_images" not in derive_traits(whole("BriaPipeline")).parameters


def test_a_prompt_in_json_says_what_the_class_reads() -> None:
    name = "BriaFiboEditPipeline"
    assert lacks_of_prompt(name, trial_prompt(name)) is None
    assert lacks_of_prompt("BriaPipeline", "a cat") is None
    for wrong in ("a cat", "", "[]", '{"text": 1}', "[" * 100_000, '"edit_instruction"'):
        assert "edit_instruction" in (lacks_of_prompt(name, wrong) or "")


def test_the_first_picture_of_a_whole_model_is_the_smallest() -> None:
    info = combine("m", ModelSettings(), derive_traits(whole()))
    (warmup,) = info.warmups
    assert (warmup.width_px, info.defaults.width_px) == (64, 1024)


def test_the_file_of_calls_knows_every_class() -> None:
    calls = known_calls()
    assert len(calls) > 250
    pixart = calls["PixArtSigmaPipeline"]
    assert pixart.parts == {"scheduler", "transformer", "vae"}
    assert pixart.first_of("mask_image", "prompt") == "prompt"
