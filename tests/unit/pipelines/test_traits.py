from __future__ import annotations

from typing import Any

import pytest

from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.fake_pace import FakePace
from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.models import BackendKind, DeviceKind, Placement
from darkroom_server.model_config.model_info import combine
from darkroom_server.model_config.settings import (
    DefaultSettings,
    InstanceGroupSettings,
    LimitSettings,
    ModelSettings,
)
from darkroom_server.pipelines.traits import (
    REQUEST_FIELDS,
    PipelineParts,
    PipelineTraits,
    UnsupportedPipeline,
    derive_traits,
    fake_traits,
)
from tests.unit.repository.builders import denoiser_class

FILL_FIELDS = {"image", "mask", "mask_polarity", "strength", "preserve_unmasked"}


def parts(
    class_name: str = "StableDiffusionXLPipeline",
    *,
    denoiser: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    scheduler: str = "",
    without: str = "",
) -> PipelineParts:
    flows = class_name.startswith(("Flux", "StableDiffusion3", "HiDream"))
    name = "transformer" if flows else "unet"
    own = "FlowMatchEulerDiscreteScheduler" if flows else "EulerDiscreteScheduler"
    components = {
        name: ("diffusers", denoiser_class(class_name)),
        "vae": ("diffusers", "AutoencoderKL"),
        "scheduler": ("diffusers", scheduler or own),
        **{f"text_encoder{k}": ("transformers", "Encoder") for k in ("", "_2", "_3", "_4")},
    }
    components.pop(without, None)
    vae = {"block_out_channels": [1, 2, 3, 4]} if vae is None else vae
    configs: dict[str, dict[str, object]] = {name: denoiser or {}, "vae": vae, "scheduler": {}}
    return PipelineParts(class_name=class_name, components=components, configs=configs)


WITHOUT_FILL = {Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE}
DRAWS_AND_FILLS = WITHOUT_FILL | {Task.FILL}


def whole(
    class_name: str = "PixArtAlphaPipeline", *, without: str = "", **configs: dict[str, object]
) -> PipelineParts:
    """A pipeline of a class without a family."""
    components = {
        "tokenizer": ("transformers", "T5Tokenizer"),
        "transformer": ("diffusers", "Denoiser"),
        "vae": ("diffusers", "AutoencoderKL"),
        "scheduler": ("diffusers", "DPMSolverMultistepScheduler"),
        "text_encoder": ("transformers", "T5EncoderModel"),
    }
    components.pop(without, None)
    given: dict[str, dict[str, object]] = {name: {} for name in components}
    components |= dict.fromkeys(configs.keys() - components.keys(), ("diffusers", "Denoiser"))
    return PipelineParts(class_name=class_name, components=components, configs=given | configs)


def sdxl(**denoiser: Any) -> PipelineTraits:
    return derive_traits(parts(denoiser=denoiser))


def flux(**denoiser: Any) -> PipelineTraits:
    return derive_traits(parts("FluxPipeline", denoiser=denoiser))


def hidream(**denoiser: Any) -> PipelineTraits:
    return derive_traits(parts("HiDreamImagePipeline", denoiser=denoiser))


@pytest.mark.parametrize(
    ("class_name", "denoiser", "tasks"),
    [
        pytest.param("StableDiffusionXLPipeline", {"in_channels": 4}, DRAWS_AND_FILLS, id="sdxl"),
        pytest.param("StableDiffusionXLPipeline", {"in_channels": 9}, {Task.FILL}, id="sdxl-9ch"),
        pytest.param("StableDiffusionXLInpaintPipeline", {}, {Task.FILL}, id="sdxl-inpaint"),
        pytest.param("StableDiffusionPipeline", {"in_channels": 4}, DRAWS_AND_FILLS, id="sd"),
        pytest.param("StableDiffusionInpaintPipeline", {}, {Task.FILL}, id="sd-inpaint"),
        pytest.param("StableDiffusion3Pipeline", {}, WITHOUT_FILL, id="sd3"),
        pytest.param("FluxPipeline", {"in_channels": 64}, DRAWS_AND_FILLS, id="flux"),
        pytest.param("FluxFillPipeline", {"in_channels": 384}, {Task.FILL}, id="flux-fill"),
        pytest.param("HiDreamImagePipeline", {}, {Task.TEXT_TO_IMAGE}, id="hidream"),
    ],
)
def test_the_tasks_follow_from_the_class_and_the_denoiser(
    class_name: str, denoiser: dict[str, Any], tasks: set[Task]
) -> None:
    traits = derive_traits(parts(class_name, denoiser=denoiser))
    assert traits.tasks == tasks
    assert (set(traits.parameters) >= FILL_FIELDS) == (Task.FILL in tasks)


@pytest.mark.parametrize(
    ("class_name", "level_count", "multiple_px"),
    [
        pytest.param("StableDiffusionXLPipeline", 4, 8, id="sdxl"),
        pytest.param("StableDiffusionXLPipeline", 1, 1, id="sdxl-vae-without-reduction"),
        pytest.param("FluxPipeline", 4, 16, id="flux"),
        pytest.param("StableDiffusion3Pipeline", 4, 16, id="sd3"),
        pytest.param("FluxFillPipeline", 5, 32, id="flux-fill-deeper-vae"),
        pytest.param("HiDreamImagePipeline", 4, 16, id="hidream"),
    ],
)
def test_sizes_are_multiples_of_the_vae_factor_times_the_packing(
    class_name: str, level_count: int, multiple_px: int
) -> None:
    traits = derive_traits(parts(class_name, vae={"block_out_channels": [8] * level_count}))
    assert traits.limits.size_multiple_px == multiple_px
    assert traits.limits.min_size_px == max(16, multiple_px)
    assert traits.defaults.width_px == 1024


def test_a_transformer_guided_by_negative_prompts_is_not_taken_for_a_distilled_one() -> None:
    traits = derive_traits(parts("StableDiffusion3Pipeline", denoiser={"sample_size": 128}))
    assert traits.parameters["guidance_scale"]
    assert traits.parameters["negative_prompt"]
    assert (traits.defaults.step_count, traits.defaults.guidance_scale) == (28, 7.0)


@pytest.mark.parametrize(
    ("sample_size", "edge_px"),
    [
        pytest.param(64, 512, id="sd-1"),
        pytest.param(96, 768, id="sd-2"),
        pytest.param(None, 512, id="unsaid"),
    ],
)
def test_sd_defaults_to_the_size_it_was_trained_at(sample_size: object, edge_px: int) -> None:
    traits = derive_traits(parts("StableDiffusionPipeline", denoiser={"sample_size": sample_size}))
    assert (traits.defaults.width_px, traits.defaults.height_px) == (edge_px, edge_px)


@pytest.mark.parametrize(
    ("sample_size", "edge_px"),
    [
        pytest.param(32, 256, id="trained-at-256"),
        pytest.param(128, 1024, id="trained-at-1024"),
        pytest.param([32, 32], 1024, id="not-a-number"),
        pytest.param(0, 1024, id="zero"),
        pytest.param(10**9, 1024, id="absurd"),
    ],
)
def test_sdxl_defaults_to_the_size_it_was_trained_at(sample_size: object, edge_px: int) -> None:
    traits = sdxl(sample_size=sample_size)
    assert (traits.defaults.width_px, traits.defaults.height_px) == (edge_px, edge_px)
    assert traits.limits.max_size_px == 2 * edge_px
    assert traits.limits.max_pixel_count == (2 * edge_px) ** 2


def test_sdxl_honours_the_common_fields_and_a_negative_prompt() -> None:
    honoured = set(REQUEST_FIELDS) - {"feature_cache", "reference_images"}
    assert sdxl().parameters == dict.fromkeys(honoured, True)


def test_an_sdxl_that_embeds_the_guidance_scale_takes_a_negative_prompt_without_effect() -> None:
    assert sdxl(time_cond_proj_dim=256).parameters["negative_prompt"] is False


def test_flux_cannot_honour_a_negative_prompt() -> None:
    assert "negative_prompt" not in flux(guidance_embeds=True).parameters


def test_flux_schnell_takes_guidance_without_effect_and_needs_four_steps() -> None:
    traits = flux(guidance_embeds=False)
    assert traits.parameters["guidance_scale"] is False
    assert (traits.defaults.step_count, traits.defaults.guidance_scale) == (4, 0.0)


def test_flux_dev_is_guided() -> None:
    traits = flux(guidance_embeds=True)
    assert traits.parameters["guidance_scale"] is True
    assert (traits.defaults.step_count, traits.defaults.guidance_scale) == (28, 3.5)


def test_previews_are_offered() -> None:
    assert "preview" in sdxl().parameters


@pytest.mark.parametrize(
    ("scheduler", "other"),
    [
        pytest.param("DDIMScheduler", "HeunDiscreteScheduler", id="one-of-the-family"),
        pytest.param("EDMEulerScheduler", "DDIMScheduler", id="one-of-its-own"),
    ],
)
def test_the_own_scheduler_is_the_default_and_allowed(scheduler: str, other: str) -> None:
    traits = derive_traits(parts(scheduler=scheduler))
    assert traits.defaults.scheduler == scheduler
    assert {scheduler, other} <= set(traits.schedulers)
    assert "FlowMatchEulerDiscreteScheduler" not in traits.schedulers


@pytest.mark.parametrize("class_name", ["FluxPipeline", "FluxFillPipeline", "HiDreamImagePipeline"])
def test_a_scheduler_that_a_family_cannot_run_is_refused_with_those_it_can(class_name: str) -> None:
    bad = parts(class_name, scheduler="FlowMatchHeunDiscreteScheduler")
    with pytest.raises(UnsupportedPipeline, match="FlowMatchEulerDiscreteScheduler") as caught:
        derive_traits(bad)
    assert "FlowMatchHeunDiscreteScheduler" in str(caught.value)


@pytest.mark.parametrize(
    ("denoiser", "edge_px"),
    [
        pytest.param({}, 1024, id="unsaid"),
        pytest.param({"max_resolution": [128, 128]}, 1024, id="as-published"),
        pytest.param({"max_resolution": [64, 64]}, 512, id="smaller"),
        pytest.param({"max_resolution": "all"}, 1024, id="absurd"),
    ],
)
def test_no_setting_raises_the_area_of_a_transformer_that_pads(
    denoiser: dict[str, Any], edge_px: int
) -> None:
    traits = hidream(**denoiser)
    assert traits.defaults.width_px == edge_px
    assert (traits.limits.max_size_px, traits.limits.max_pixel_count) == (2 * edge_px, edge_px**2)
    wide = ModelSettings(limits=LimitSettings(max_size_px=4096))
    assert combine("m", wide, traits).limits.max_pixel_count == edge_px**2
    small = ModelSettings(limits=LimitSettings(max_pixel_count=65536))
    assert combine("m", small, traits).limits.max_pixel_count == 65536


@pytest.mark.parametrize(
    ("most", "expected"),
    [pytest.param(None, 32, id="as many as pay"), pytest.param(4, 4, id="fewer")],
)
@pytest.mark.parametrize("level", Reproducibility)
def test_rows_of_a_step(level: Reproducibility, most: int | None, expected: int) -> None:
    settings = ModelSettings(reproducibility=level, max_batch_size=most)
    assert combine("m", settings, derive_traits(parts())).max_batch_size == expected
    assert combine("m", settings, derive_traits(whole())).max_batch_size == (most or 8)


@pytest.mark.parametrize(
    ("bad", "file", "message"),
    [
        pytest.param(
            parts("WuerstchenPipeline", without="text_encoder"),
            "model_index.json",
            "nor has it a vae, a scheduler, a text_encoder",
            id="without-text",
        ),
        pytest.param(
            parts("HiDreamImagePipeline", without="text_encoder_4"),
            "model_index.json",
            "'text_encoder_4'",
            id="without-llama",
        ),
        pytest.param(
            whole("Wuerstchen"), "model_index.json", "a text_encoder", id="not-named-a-pipeline"
        ),
        pytest.param(
            whole("LaterPipeline", without="vae"),
            "model_index.json",
            "has it a vae",
            id="later-class",
        ),
        pytest.param(
            whole(without="vae"), "model_index.json", "needs a 'vae'", id="whole-without-a-vae"
        ),
        pytest.param(parts(without="unet"), "model_index.json", "'unet'", id="no-denoiser"),
        pytest.param(
            parts(without="scheduler"), "model_index.json", "'scheduler'", id="no-scheduler"
        ),
        pytest.param(
            parts(vae={}), "vae/config.json", "block_out_channels", id="vae-without-widths"
        ),
        pytest.param(
            parts(vae={"block_out_channels": [1] * 1000}),
            "vae/config.json",
            "block_out_channels",
            id="vae-of-a-thousand-levels",
        ),
    ],
)
def test_what_cannot_be_served_is_refused(bad: PipelineParts, file: str, message: str) -> None:
    with pytest.raises(UnsupportedPipeline, match=message) as caught:
        derive_traits(bad)
    assert caught.value.file == file


@pytest.mark.parametrize(
    ("class_name", "task"),
    [
        ("PixArtAlphaPipeline", Task.TEXT_TO_IMAGE),
        ("QwenImageInpaintPipeline", Task.FILL),
        ("QwenImageImg2ImgPipeline", Task.IMAGE_TO_IMAGE),
        ("CogView4ControlPipeline", Task.IMAGE_TO_IMAGE),
        ("LaterInpaintPipeline", Task.FILL),
    ],
)
def test_a_class_without_a_family_runs_whole(class_name: str, task: Task) -> None:
    traits = derive_traits(whole(class_name))
    assert traits.runs_whole
    assert traits.parameters["preview"] is False
    assert traits.tasks == {task}
    assert traits.schedulers == ("DPMSolverMultistepScheduler",)
    assert (set(traits.parameters) >= FILL_FIELDS) == (task is Task.FILL)
    assert ("strength" in traits.parameters) == ("In" in class_name or "Img2Img" in class_name)
    assert not sdxl().runs_whole


@pytest.mark.parametrize(
    ("configs", "edge_px", "multiple_px"),
    [
        pytest.param({}, 1024, 16, id="nothing-known"),
        pytest.param({"vae": {"encoder_block_out_channels": [1] * 6}}, 1024, 64, id="deep-vae"),
        pytest.param(
            {"vae": {"block_out_channels": [1, 2, 3]}, "transformer": {"sample_size": 64}},
            256,
            8,
            id="trained-at-256",
        ),
        pytest.param({"transformer": {"sample_size": 5}}, 32, 16, id="trained-off-the-grid"),
        pytest.param({"transformer": {"sample_size": 10**9}}, 1024, 16, id="absurd"),
    ],
)
def test_sizes_of_a_class_without_a_family_follow_from_its_parts(
    configs: dict[str, dict[str, object]], edge_px: int, multiple_px: int
) -> None:
    traits = derive_traits(whole(**configs))
    assert (traits.defaults.width_px, traits.limits.size_multiple_px) == (edge_px, multiple_px)


def test_dynamic_batching_is_passed_on() -> None:
    batching = DynamicBatching(preferred_batch_sizes=(2,), max_queue_delay_s=0.1)
    settings = ModelSettings(dynamic_batching=batching)
    assert combine("m", settings, derive_traits(whole())).dynamic_batching == batching


def test_without_a_config_the_derived_values_stand() -> None:
    traits = sdxl(sample_size=32)
    info = combine("m", ModelSettings(), traits)
    assert (info.name, info.display_name, info.hub_id) == ("m", "m", "")
    assert (info.defaults, info.limits) == (traits.defaults, traits.limits)
    assert (info.schedulers, info.parameters) == (traits.schedulers, traits.parameters)
    assert info.tasks == DRAWS_AND_FILLS
    assert info.backend is BackendKind.DIFFUSERS
    assert info.max_queue_size >= 1


def test_settings_override_what_is_derived() -> None:
    settings = ModelSettings(
        display_name="M",
        tasks=(Task.FILL,),
        defaults=DefaultSettings(width_px=128, guidance_scale=0.0),
        limits=LimitSettings(max_size_px=512, max_step_count=50),
        schedulers=("DDIMScheduler",),
        instance_groups=(
            InstanceGroupSettings(device=DeviceKind.CPU, count=2),
            InstanceGroupSettings(device=DeviceKind.GPU, gpus=(0, 1)),
        ),
        max_queue_size=3,
    )
    info = combine("m", settings, sdxl(sample_size=32))
    assert info.display_name == "M"
    assert info.tasks == {Task.FILL}
    assert (info.defaults.width_px, info.defaults.height_px) == (128, 256)
    assert info.defaults.guidance_scale == 0.0
    assert (info.limits.max_size_px, info.limits.max_pixel_count) == (512, 512**2)
    assert info.limits.max_step_count == 50
    assert info.schedulers == ("DDIMScheduler", "EulerDiscreteScheduler")
    assert info.placements == (
        *(Placement(DeviceKind.CPU, None),) * 2,
        Placement(DeviceKind.GPU, 0),
        Placement(DeviceKind.GPU, 1),
    )
    assert info.max_queue_size == 3


def test_named_parameters_leave_those_and_the_inputs_a_task_needs() -> None:
    info = combine("m", ModelSettings(parameters=("seed",)), sdxl())
    assert set(info.parameters) == {"seed", "prompt", "image", "mask"}


def test_the_fake_backend_takes_every_field_and_is_small() -> None:
    settings = ModelSettings(backend=BackendKind.FAKE, fake=FakePace(step_s=0.5))
    info = combine("m", settings, fake_traits())
    assert info.tasks == set(Task)
    assert set(info.parameters) == set(REQUEST_FIELDS)
    defaults = info.defaults
    assert (defaults.width_px, defaults.height_px, defaults.step_count) == (64, 64, 4)
    assert info.limits.size_multiple_px == 8
    assert (info.schedulers, info.fake.step_s) == (("FakeScheduler",), 0.5)
