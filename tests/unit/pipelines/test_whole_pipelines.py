"""Pipelines without a family: what follows from what their classes take and give."""

from __future__ import annotations

import pytest

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
        ("FluxControlInpaintPipeline", "takes image and control_image"),
        ("OnnxStableDiffusionPipeline", "another runtime than torch: export"),
        ("ChromaInpaintPipeline", "guidance_embeds.*: use another pipeline"),
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
