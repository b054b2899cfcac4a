"""What a model can do, worked out from its pipeline folder; `config.pbtxt` overrides it.

Pure: `derive_traits` and `fake_traits` say what the files allow; `combine.py` puts the settings of
the config over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from darkroom_server.domain.jobs import StrengthRounding, Task
from darkroom_server.domain.models import (
    Defaults,
    DenoiserKind,
    Limits,
)
from darkroom_server.models import bounds
from darkroom_server.models.families import FAMILIES, Family

_Value = TypeVar("_Value", int, float, str)

#: What a class without a family gets, whose own defaults only its code knows.
_UNKNOWN_STEP_COUNT = 20
_UNKNOWN_GUIDANCE_SCALE = 5.0
_UNKNOWN_EDGE_PX = 1024
_UNKNOWN_VAE_FACTOR = 8
#: Latents along each edge that most transformers take as one token, and UNets halve at least once.
_UNKNOWN_PACKING = 2
#: Parts by which a pipeline without a family is taken for one that makes images of texts.
_NEEDED_PARTS = ("vae", "scheduler", "text_encoder")

#: Steps of a distilled FLUX without guidance embedding (schnell).
_DISTILLED_STEP_COUNT = 4
#: Input channels of an SDXL UNet that takes latents, mask and masked latents.
_INPAINTING_CHANNEL_COUNT = 9

_COMMON_PARAMETERS = (
    "prompt",
    "width_px",
    "height_px",
    "step_count",
    "guidance_scale",
    "seed",
    "image_count",
    "scheduler",
    "output",
    "preview",
)
_SOURCE_PARAMETERS = ("image", "strength")
_FILL_PARAMETERS = ("image", "mask", "mask_polarity", "strength", "preserve_unmasked")

#: Every request field that some model may not honour.
REQUEST_FIELDS: Final = (
    *_COMMON_PARAMETERS,
    "negative_prompt",
    "feature_cache",
    *_FILL_PARAMETERS,
)


class UnsupportedPipeline(ValueError):
    """No model can be made of the folder; the message says why, `file` where."""

    def __init__(self, file: str, message: str) -> None:
        super().__init__(message)
        self.file = file


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """A pipeline folder's `model_index.json` and the config of each of its parts.

    `components` maps a part to (library, class).
    """

    class_name: str
    components: dict[str, tuple[str, str]]
    configs: dict[str, dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineTraits:
    """What a pipeline's files allow; the first of `schedulers` need not be the default."""

    pipeline_class: str
    tasks: frozenset[Task]
    defaults: Defaults
    limits: Limits
    schedulers: tuple[str, ...]
    parameters: dict[str, bool]
    #: Whether its requests run from end to end, without sharing single steps.
    runs_whole: bool = False
    strength_rounding: StrengthRounding = StrengthRounding.DOWN
    #: Whether no config can raise the number of pixels.
    bounds_area: bool = False
    #: Whether rows of a fixed number can have equal bytes whatever their neighbours.
    #: What can compute its denoising steps.
    denoisers: frozenset[DenoiserKind] = frozenset({DenoiserKind.TORCH})


def fake_traits() -> PipelineTraits:
    """The fake backend's: it takes every request field."""
    return PipelineTraits(
        pipeline_class="FakePipeline",
        tasks=frozenset(Task),
        defaults=Defaults(
            width_px=64, height_px=64, step_count=4, guidance_scale=5.0, scheduler="FakeScheduler"
        ),
        limits=_limits(edge_px=512, multiple_px=8),
        schedulers=("FakeScheduler",),
        parameters=dict.fromkeys(REQUEST_FIELDS, True),
    )


def derive_traits(parts: PipelineParts) -> PipelineTraits:
    """Reads a pipeline's abilities off its parts; raises UnsupportedPipeline."""
    family = FAMILIES.get(parts.class_name)
    if family is None:
        return _derive_whole(parts)
    _check_parts(parts, family)
    denoiser = parts.configs[family.denoiser]
    vae_factor = _vae_factor(parts.configs["vae"])
    multiple_px = vae_factor * family.packing
    edge_px = _edge_px(denoiser, vae_factor, family)
    scheduler = parts.components["scheduler"][1]
    tasks = family.tasks
    if family.denoiser == "unet" and denoiser.get("in_channels") == _INPAINTING_CHANNEL_COUNT:
        tasks = frozenset({Task.FILL})
    guided = not family.embeds_guidance or denoiser.get("guidance_embeds") is True
    return PipelineTraits(
        pipeline_class=parts.class_name,
        tasks=tasks,
        defaults=Defaults(
            width_px=edge_px,
            height_px=edge_px,
            step_count=family.step_count if guided else _DISTILLED_STEP_COUNT,
            guidance_scale=family.guidance_scale if guided else 0.0,
            scheduler=scheduler,
        ),
        limits=_limits(edge_px=edge_px, multiple_px=multiple_px, bounds_area=family.bounds_area),
        schedulers=tuple(dict.fromkeys((*family.schedulers, scheduler))),
        parameters=_parameters(family, denoiser, tasks, guided=guided)
        # Nobody checks a preview.
        | {"preview": "safety_checker" not in parts.components},
        strength_rounding=family.strength_rounding,
        bounds_area=family.bounds_area,
        denoisers=family.denoisers,
    )


def _check_parts(parts: PipelineParts, family: Family) -> None:
    for needed in ("vae", "scheduler", family.denoiser, *family.text_encoders):
        if needed not in parts.components:
            raise UnsupportedPipeline(
                "model_index.json", f"a {parts.class_name} needs a '{needed}'"
            )
    scheduler = parts.components["scheduler"][1]
    if family.folder_schedulers and scheduler not in family.folder_schedulers:
        raise UnsupportedPipeline(
            "model_index.json",
            f"a {parts.class_name} does not run with a {scheduler}; save it with one of these: "
            f"{', '.join(family.folder_schedulers)}",
        )


def _derive_whole(parts: PipelineParts) -> PipelineTraits:
    """Of a class without a family; whether diffusers has it, and what it takes, the loader tells.

    Sizes may be coarser and schedulers fewer than it would take.
    """
    is_whole = all(name in parts.components for name in _NEEDED_PARTS)
    if not (parts.class_name.endswith("Pipeline") and is_whole):
        raise UnsupportedPipeline(
            "model_index.json",
            f"pipelines of class {parts.class_name} cannot be served; these can: "
            f"{', '.join(sorted(FAMILIES))}, and others with a {', a '.join(_NEEDED_PARTS)}",
        )
    vae_factor = _any_vae_factor(parts.configs["vae"])
    multiple_px = vae_factor * _UNKNOWN_PACKING
    denoiser = parts.configs.get("transformer") or parts.configs.get("unet") or {}
    edge_px = _trained_edge_px(denoiser, vae_factor, _UNKNOWN_EDGE_PX)
    edge_px = max(multiple_px, edge_px // multiple_px * multiple_px)
    fills = "Inpaint" in parts.class_name or "Fill" in parts.class_name
    tasks = frozenset({Task.FILL if fills else Task.TEXT_TO_IMAGE})
    parameters = dict.fromkeys((*_COMMON_PARAMETERS, "negative_prompt"), True)
    parameters["preview"] = False
    if Task.FILL in tasks:
        parameters.update(dict.fromkeys(_FILL_PARAMETERS, True))
    scheduler = parts.components["scheduler"][1]
    # Of the class that optimum's is made of.
    family = FAMILIES.get(parts.class_name.removeprefix("OV"))
    return PipelineTraits(
        pipeline_class=parts.class_name,
        tasks=tasks,
        defaults=Defaults(
            width_px=edge_px,
            height_px=edge_px,
            step_count=family.step_count if family else _UNKNOWN_STEP_COUNT,
            guidance_scale=family.guidance_scale if family else _UNKNOWN_GUIDANCE_SCALE,
            scheduler=scheduler,
        ),
        limits=_limits(edge_px=edge_px, multiple_px=multiple_px),
        schedulers=(scheduler,),
        parameters=parameters,
        runs_whole=True,
    )


def _vae_factor(config: dict[str, object]) -> int:
    widths = config.get("block_out_channels")
    if not isinstance(widths, list) or not 1 <= len(widths) <= 8:
        raise UnsupportedPipeline(
            "vae/config.json", "'block_out_channels' must list the VAE's widths"
        )
    return int(2 ** (len(widths) - 1))


def _any_vae_factor(config: dict[str, object]) -> int:
    """By the widths that the VAE's config lists under either name, or what most have."""
    for name in ("block_out_channels", "encoder_block_out_channels"):
        widths = config.get(name)
        if isinstance(widths, list) and 1 <= len(widths) <= 8:
            return int(2 ** (len(widths) - 1))
    return _UNKNOWN_VAE_FACTOR


def _edge_px(denoiser: dict[str, object], vae_factor: int, family: Family) -> int:
    """The size the denoiser was trained at, where its config says so and it is a sensible one."""
    if family.bounds_area:
        match denoiser.get("max_resolution"):
            case [edge, _]:
                return _latents_px(edge, vae_factor, family.edge_px)
    if family.denoiser != "unet":
        return family.edge_px
    return _trained_edge_px(denoiser, vae_factor, family.edge_px)


def _trained_edge_px(denoiser: dict[str, object], vae_factor: int, otherwise_px: int) -> int:
    return _latents_px(denoiser.get("sample_size"), vae_factor, otherwise_px)


def _latents_px(sample_size: object, vae_factor: int, otherwise_px: int) -> int:
    if type(sample_size) is not int:
        return otherwise_px
    edge_px = sample_size * vae_factor
    return edge_px if bounds.MIN_SIZE_PX <= edge_px <= bounds.MAX_SIZE_PX else otherwise_px


def _limits(*, edge_px: int, multiple_px: int, bounds_area: bool = False) -> Limits:
    """Up to twice the trained edge, on the grid; steps and images as many as a request may ask."""
    smallest_px = -(-bounds.MIN_SIZE_PX // multiple_px) * multiple_px
    largest_px = max(smallest_px, min(2 * edge_px, bounds.MAX_SIZE_PX) // multiple_px * multiple_px)
    return Limits(
        min_size_px=smallest_px,
        max_size_px=largest_px,
        size_multiple_px=multiple_px,
        max_pixel_count=edge_px**2 if bounds_area else largest_px**2,
        max_step_count=bounds.MAX_STEP_COUNT,
        max_image_count=bounds.MAX_IMAGE_COUNT,
    )


def _parameters(
    family: Family, denoiser: dict[str, object], tasks: frozenset[Task], *, guided: bool
) -> dict[str, bool]:
    parameters = dict.fromkeys(_COMMON_PARAMETERS, True)
    parameters["guidance_scale"] = guided
    if family.takes_negative_prompt:
        # A UNet that embeds the guidance scale runs without the unconditional half.
        parameters["negative_prompt"] = denoiser.get("time_cond_proj_dim") is None
    if family.caches_features:
        parameters["feature_cache"] = True
    if Task.IMAGE_TO_IMAGE in tasks:
        parameters.update(dict.fromkeys(_SOURCE_PARAMETERS, True))
    if Task.FILL in tasks:
        parameters.update(dict.fromkeys(_FILL_PARAMETERS, True))
    return parameters
