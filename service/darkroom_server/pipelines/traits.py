"""What a model can do, worked out from its pipeline folder; `config.pbtxt` overrides it.

Pure: `derive_traits` and `fake_traits` say what the files allow; `combine.py` puts the settings of
the config over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from darkroom_server.domain.jobs import StrengthRounding, Task
from darkroom_server.domain.models import (
    Defaults,
    DenoiserKind,
    Limits,
)
from darkroom_server.domain.pipeline_call import PipelineCall
from darkroom_server.domain.references import FAKE_RULE, REFERENCE_RULES, ReferenceRule
from darkroom_server.domain.whole_pipelines import (
    STEPS,
    TRUE_GUIDANCE,
    guidance_names,
    reference_rule,
    refusal_of,
    tasks_of,
)
from darkroom_server.parameters.bounds import MAX_SIZE_PX
from darkroom_server.parameters.parameter import EVERY_FAMILY, WITHOUT_STEPS
from darkroom_server.parameters.table import listed_names
from darkroom_server.pipelines.families import FAMILIES, Family
from darkroom_server.pipelines.honoured import Unhonoured
from darkroom_server.pipelines.pipeline_calls import known_calls
from darkroom_server.pipelines.schedulers import Schedulers
from darkroom_server.pipelines.sizes import edge_px_of, limits_of, most_px_of
from darkroom_server.pipelines.whole_sizes import vae_factor_of, whole_sizes

#: What a class without a family gets, whose own defaults only its code knows.
_UNKNOWN_STEP_COUNT = 20
_UNKNOWN_GUIDANCE_SCALE = 5.0
#: Parts by which a pipeline without a family is taken for one that makes images of texts.
_NEEDED_PARTS = ("vae", "scheduler", "text_encoder")

#: Steps of a distilled FLUX without guidance embedding (schnell).
_DISTILLED_STEP_COUNT = 4
#: Channels of the latents that a UNet fills in, and its input channels when it takes the mask and
#: the masked latents as well.
_FILLED_CHANNEL_COUNT, _INPAINTING_CHANNEL_COUNT = 4, 9

#: Every request field that some model may not honour.
REQUEST_FIELDS: Final = listed_names(Task)


class UnsupportedPipeline(ValueError):
    """No model can be made of the folder; the message says why, `file` where."""

    def __init__(self, file: str, message: str) -> None:
        super().__init__(message)
        self.file = file


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineParts:
    """A pipeline folder's `model_index.json` and the config of each of its parts.

    `components` maps a part to (library, class); `options` are what else the index sets.
    """

    class_name: str
    components: dict[str, tuple[str, str]]
    configs: dict[str, dict[str, object]]
    options: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineTraits:
    """What a pipeline's files allow; the first of `schedulers` need not be the default.

    `schedulers` are offered unless a config names others of the `usable_schedulers`. Of those,
    `noising_schedulers` can begin with an image.
    """

    pipeline_class: str
    tasks: frozenset[Task]
    defaults: Defaults
    limits: Limits
    schedulers: tuple[str, ...]
    parameters: dict[str, bool]
    usable_schedulers: tuple[str, ...]
    noising_schedulers: frozenset[str]
    #: Whether its requests run from end to end, without sharing single steps.
    runs_whole: bool = False
    #: What runs it step by step otherwise.
    step_model: str = ""
    strength_rounding: StrengthRounding = StrengthRounding.DOWN
    #: Whether no config can raise the number of pixels.
    bounds_area: bool = False
    #: The longest edge that the denoiser can draw, whatever a config says.
    most_px: int = MAX_SIZE_PX
    #: Whether it guides only where there is a negative prompt.
    guidance_needs_negative: bool = False
    #: How it takes reference images, where EDIT is among its tasks.
    references: ReferenceRule | None = None
    #: What can compute its denoising steps.
    denoisers: frozenset[DenoiserKind] = frozenset({DenoiserKind.TORCH})
    #: Settings of its parts because of which a pipeline with a family runs whole.
    unhonoured: tuple[Unhonoured, ...] = ()


def fake_traits() -> PipelineTraits:
    """The fake backend's: it takes every request field."""
    return PipelineTraits(
        pipeline_class="FakePipeline",
        tasks=frozenset(Task),
        defaults=Defaults(
            width_px=64, height_px=64, step_count=4, guidance_scale=5.0, scheduler="FakeScheduler"
        ),
        limits=limits_of(edge_px=512, multiple_px=8),
        schedulers=("FakeScheduler",),
        usable_schedulers=("FakeScheduler",),
        noising_schedulers=frozenset({"FakeScheduler"}),
        parameters=dict.fromkeys(REQUEST_FIELDS, True),
        references=FAKE_RULE,
    )


def derive_traits(parts: PipelineParts) -> PipelineTraits:
    """Reads a pipeline's abilities off its parts; raises UnsupportedPipeline."""
    family = FAMILIES.get(parts.class_name)
    if family is None:
        return _derive_whole(parts)
    _check_parts(parts, family)
    schedulers = _schedulers(parts, family)
    unhonoured = tuple(_unhonoured(parts, family, schedulers))
    refused = [one for one in unhonoured if one.is_refused or not family.can_run_whole]
    if refused:
        raise UnsupportedPipeline(refused[0].file, refused[0].message)
    traits = _derive_steps(parts, family, schedulers)
    return _run_whole(traits, unhonoured) if unhonoured else traits


def _run_whole(traits: PipelineTraits, unhonoured: tuple[Unhonoured, ...]) -> PipelineTraits:
    """The same pipeline by its own code, which does one task only, and edits if the class does."""
    task = _task_of_class(traits.pipeline_class)
    own, tasks = traits.defaults.scheduler, traits.tasks & {task, Task.EDIT}
    if not tasks:
        raise UnsupportedPipeline(unhonoured[0].file, unhonoured[0].message)
    kept = listed_names(tasks, WITHOUT_STEPS)
    return replace(
        traits,
        tasks=tasks,
        schedulers=(own,),
        usable_schedulers=(own,),
        noising_schedulers=frozenset({own}),
        parameters={name: has for name, has in traits.parameters.items() if name in kept}
        | {"preview": False},
        runs_whole=True,
        denoisers=frozenset({DenoiserKind.TORCH}),
        unhonoured=unhonoured,
    )


def _derive_steps(parts: PipelineParts, family: Family, schedulers: Schedulers) -> PipelineTraits:
    denoiser = parts.configs[family.denoiser]
    vae_factor = _vae_factor(parts.configs["vae"], family)
    multiple_px = vae_factor * family.packing
    most_px = most_px_of(denoiser, multiple_px)
    edge_px = min(edge_px_of(denoiser, vae_factor, family), most_px)
    usable = schedulers.usable()
    noising = frozenset(name for name in usable if schedulers.can_begin_with_images(name))
    begins_with_images = schedulers.can_begin_with_images(schedulers.own)
    tasks = _tasks(parts, family, begins_with_images=begins_with_images)
    guided = not family.embeds_guidance or denoiser.get("guidance_embeds") is True
    guided &= parts.options.get("is_distilled") is not True
    offered = (name for name in family.schedulers if name in usable)
    return PipelineTraits(
        pipeline_class=parts.class_name,
        tasks=tasks,
        defaults=Defaults(
            width_px=edge_px,
            height_px=edge_px,
            step_count=family.step_count if guided else _DISTILLED_STEP_COUNT,
            guidance_scale=family.guidance_scale if guided else 0.0,
            scheduler=schedulers.own,
        ),
        limits=limits_of(
            edge_px=edge_px,
            multiple_px=multiple_px,
            bounds_area=family.bounds_area,
            most_px=most_px,
        ),
        schedulers=tuple(dict.fromkeys((*offered, schedulers.own))),
        usable_schedulers=usable,
        noising_schedulers=noising,
        parameters=_parameters(family, denoiser, tasks, guided=guided)
        # Nobody checks a preview.
        | {"preview": "safety_checker" not in parts.components},
        step_model=family.step_model,
        strength_rounding=family.strength_rounding,
        bounds_area=family.bounds_area,
        most_px=most_px,
        guidance_needs_negative=family.guidance_needs_negative,
        references=REFERENCE_RULES.get(parts.class_name),
        denoisers=_denoisers(family, denoiser),
    )


def _denoisers(family: Family, denoiser: dict[str, object]) -> frozenset[DenoiserKind]:
    # Nobody has exported a UNet that embeds its guidance.
    if denoiser.get("time_cond_proj_dim") is None:
        return family.denoisers
    return frozenset(kind for kind in family.denoisers if not kind.is_exported)


def _tasks(parts: PipelineParts, family: Family, *, begins_with_images: bool) -> frozenset[Task]:
    """Those of the family that the denoiser's and the VAE's channels, and the scheduler, allow."""
    denoiser = parts.configs[family.denoiser]
    _check_channels(parts, family)
    tasks = set(family.tasks)
    inputs = denoiser.get("in_channels", _FILLED_CHANNEL_COUNT)
    if family.denoiser == "unet" and inputs == _INPAINTING_CHANNEL_COUNT:
        # At full strength it begins with noise alone, whatever the scheduler.
        return frozenset({Task.FILL})
    if family.denoiser == "unet" and inputs != _FILLED_CHANNEL_COUNT:
        tasks.discard(Task.FILL)
    if not begins_with_images:
        tasks -= {Task.IMAGE_TO_IMAGE, Task.FILL}
    if not tasks:
        scheduler = parts.components["scheduler"][1]
        raise UnsupportedPipeline(
            "model_index.json",
            f"a {parts.class_name} with this denoiser and a {scheduler} can do nothing: it fills "
            f"pictures with a UNet of {_FILLED_CHANNEL_COUNT} or {_INPAINTING_CHANNEL_COUNT} input "
            "channels and a scheduler that can begin with an image only",
        )
    return frozenset(tasks)


def _check_channels(parts: PipelineParts, family: Family) -> None:
    """Whether what the denoiser takes and gives are latents of the VAE, where all three say so."""
    denoiser, vae = parts.configs[family.denoiser], parts.configs["vae"]
    latents, inputs = vae.get("latent_channels"), denoiser.get("in_channels")
    outputs = denoiser.get("out_channels") or inputs
    if type(latents) is not int or type(inputs) is not int or type(outputs) is not int:
        return
    packed = latents * family.packing**2 if family.packs_channels else latents
    filling = {_INPAINTING_CHANNEL_COUNT} if latents == _FILLED_CHANNEL_COUNT else set[int]()
    fits = inputs in ({packed} | (filling if family.denoiser == "unet" else set()))
    if family.takes_masks:
        # Latents, masked latents, and the mask of every pixel.
        factor = _vae_factor(vae, family)
        fits = inputs == 2 * packed + (factor * family.packing) ** 2
    # Of some, half of what they give is a variance that is left unused.
    if not fits or outputs not in ((packed, 2 * packed) if family.learns_variance else (packed,)):
        raise UnsupportedPipeline(
            f"{family.denoiser}/config.json",
            f"'in_channels' {inputs} and 'out_channels' {outputs} do not fit the "
            f"{latents} 'latent_channels' of the VAE in a {parts.class_name}",
        )


def _schedulers(parts: PipelineParts, family: Family) -> Schedulers:
    return Schedulers(
        family.scheduler_kind,
        family.schedule_gives,
        parts.components["scheduler"][1],
        parts.configs["scheduler"],
    )


def _unhonoured(
    parts: PipelineParts, family: Family, schedulers: Schedulers
) -> Iterator[Unhonoured]:
    """What the family's steps would get wrong."""
    if not schedulers.is_known():
        yield Unhonoured("model_index.json", f"'scheduler' is a {schedulers.own}", False)
    elif reason := schedulers.reason_against(schedulers.own):
        usable = ", ".join(replace(schedulers, own="", config={}).usable())
        yield Unhonoured(
            "scheduler/scheduler_config.json",
            f"a {parts.class_name} does not run with this {schedulers.own}: {reason} (save it "
            f"with one of these: {usable})",
            True,
        )
    yield from family.honours.unhonoured(
        family.denoiser, parts.components, parts.configs, parts.options
    )


def _check_parts(parts: PipelineParts, family: Family) -> None:
    for needed in ("vae", "scheduler", family.denoiser, *family.text_encoders):
        if needed not in parts.components:
            raise UnsupportedPipeline(
                "model_index.json", f"a {parts.class_name} needs a '{needed}'"
            )


def _derive_whole(parts: PipelineParts) -> PipelineTraits:
    """Of a class without a family; whether the installed diffusers has it, the loader finds out.

    Sizes may be coarser and schedulers fewer than it would take. Optimum's are made of diffusers'.
    """
    class_name = parts.class_name.removeprefix("OV")
    call = known_calls().get(class_name) or _unknown_call(parts)
    refusal = refusal_of(class_name, call)
    if refusal is not None:
        raise UnsupportedPipeline("model_index.json", f"a {class_name} {refusal}")
    if parts.class_name == class_name and (missing := call.parts - parts.components.keys()):
        raise UnsupportedPipeline("model_index.json", f"a {class_name} needs a '{min(missing)}'")
    tasks, rule = tasks_of(class_name, call), reference_rule(class_name, call)
    scheduler = parts.components.get("scheduler", ("", ""))[1]
    sizes = whole_sizes(parts.components, parts.configs, parts.options, call.sample_size)
    family = FAMILIES.get(class_name)
    guidance = next(iter(guidance_names(call)), "")
    return PipelineTraits(
        pipeline_class=parts.class_name,
        tasks=tasks,
        defaults=Defaults(
            width_px=sizes.edge_px,
            height_px=sizes.edge_px,
            step_count=family.step_count if family else _default_steps(call),
            guidance_scale=family.guidance_scale
            if family
            else call.numbers.get(guidance, _UNKNOWN_GUIDANCE_SCALE),
            scheduler=scheduler,
        ),
        limits=sizes.limits(),
        schedulers=(scheduler,),
        usable_schedulers=(scheduler,),
        noising_schedulers=frozenset({scheduler}),
        parameters=_whole_parameters(call, tasks, rule),
        runs_whole=True,
        most_px=sizes.most_px,
        references=rule,
        guidance_needs_negative=guidance == TRUE_GUIDANCE,
    )


def _unknown_call(parts: PipelineParts) -> PipelineCall:
    """Of a class of a later diffusers: what most take."""
    is_whole = all(name in parts.components for name in _NEEDED_PARTS)
    if not (parts.class_name.endswith("Pipeline") and is_whole):
        raise UnsupportedPipeline(
            "model_index.json",
            f"pipelines of class {parts.class_name} cannot be served: it is none of the diffusers "
            f"that this release knows, nor has it a {', a '.join(_NEEDED_PARTS)}",
        )
    task = _task_of_class(parts.class_name)
    pictures = {"image", "mask_image", "strength"} if task is Task.FILL else set[str]()
    usual = {"prompt", "negative_prompt", "width", "height", "generator", "guidance_scale"}
    return PipelineCall(arguments=frozenset(usual | pictures | {"num_inference_steps"}))


def _default_steps(call: PipelineCall) -> int:
    return int(call.numbers.get(call.first_of(*STEPS) or "", _UNKNOWN_STEP_COUNT))


def _whole_parameters(
    call: PipelineCall, tasks: frozenset[Task], rule: ReferenceRule | None
) -> dict[str, bool]:
    """The request fields that a class takes; those without effect are taken all the same."""
    known = {"preview": False, "guidance_scale": bool(guidance_names(call))}
    absent = {"negative_prompt", "strength"} - call.arguments
    names = listed_names(tasks, WITHOUT_STEPS)
    beside = ["reference_images"] if rule is not None and rule.is_beside else []
    return {name: known.get(name, True) for name in (*names, *beside) if name not in absent}


def _task_of_class(class_name: str) -> Task:
    """What a pipeline's own code does."""
    fills = "Inpaint" in class_name or "Fill" in class_name
    return Task.FILL if fills else Task.TEXT_TO_IMAGE


def _vae_factor(config: dict[str, object], family: Family) -> int:
    if "AutoencoderKL" not in family.honours.vaes:
        return vae_factor_of(config)
    widths = config.get("block_out_channels")
    if not isinstance(widths, list) or not 1 <= len(widths) <= 8:
        raise UnsupportedPipeline(
            "vae/config.json", "'block_out_channels' must list the VAE's widths"
        )
    return int(2 ** (len(widths) - 1))


def _parameters(
    family: Family, denoiser: dict[str, object], tasks: frozenset[Task], *, guided: bool
) -> dict[str, bool]:
    honoured = family.parameters.union(listed_names(tasks, EVERY_FAMILY))
    parameters = {name: True for name in listed_names(tasks) if name in honoured}
    parameters["guidance_scale"] = guided
    if "negative_prompt" in parameters:
        # A UNet that embeds the guidance scale runs without the unconditional half.
        parameters["negative_prompt"] = denoiser.get("time_cond_proj_dim") is None
    return parameters
