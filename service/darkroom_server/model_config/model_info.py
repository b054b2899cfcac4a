"""A model's whole configuration: the settings of its config over what its pipeline allows. Pure."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

from darkroom_server.domain.fake_pace import FakePace
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import (
    BackendKind,
    Defaults,
    Limits,
    ModelInfo,
    Placement,
    Warmup,
)
from darkroom_server.domain.references import FAKE_BESIDE, ReferenceRule
from darkroom_server.model_config import bounds
from darkroom_server.model_config.settings import (
    DefaultSettings,
    InstanceGroupSettings,
    LimitSettings,
    ModelSettings,
    WarmupSettings,
)
from darkroom_server.parameters.parameter import Support
from darkroom_server.parameters.table import listed_names
from darkroom_server.pipelines.traits import PipelineTraits
from darkroom_server.requests.unsupported import kept_from

_Value = TypeVar("_Value", bool, int, float, str)


def combine(name: str, settings: ModelSettings, traits: PipelineTraits) -> ModelInfo:
    """The whole configuration. Expects settings that `check_against_traits` finds nothing in."""
    defaults = _override_defaults(traits.defaults, settings.defaults)
    schedulers = settings.schedulers or traits.schedulers
    own = traits.defaults.scheduler
    return ModelInfo(
        name=name,
        display_name=settings.display_name or name,
        hub_id=settings.hub_id,
        aliases=settings.aliases,
        license=settings.license,
        tasks=frozenset(settings.tasks) or traits.tasks,
        pipeline_class=traits.pipeline_class,
        backend=settings.backend,
        dtype=settings.dtype,
        max_batch_size=settings.max_batch_size or _default_batch_size(traits),
        reproducibility=settings.reproducibility,
        placements=_placements(settings.instance_groups),
        defaults=defaults,
        limits=_override_limits(traits, settings.limits),
        schedulers=tuple(dict.fromkeys((*schedulers, own))),
        parameters=_parameters(settings, traits),
        max_queue_size=settings.max_queue_size or bounds.DEFAULT_MAX_QUEUE_SIZE,
        version_labels=dict(settings.version_labels),
        traffic_percent={label: percent for label, percent in settings.traffic_percent if percent},
        warmups=_warmups(settings, defaults, traits),
        strength_rounding=traits.strength_rounding,
        runs_whole=traits.runs_whole,
        guidance_needs_negative=traits.guidance_needs_negative,
        references=_references(settings, traits),
        step_model=traits.step_model,
        dynamic_batching=settings.dynamic_batching,
        memory=settings.memory,
        adapter_memory=settings.adapter_memory,
        update_policy=settings.update_policy,
        denoiser=settings.denoiser,
        vocabulary=settings.vocabulary,
        trained_sizes=settings.trained_sizes,
        fake=settings.fake if settings.backend is BackendKind.FAKE else FakePace(),
        prompt_upsampling=settings.prompt_upsampling,
    )


def _references(settings: ModelSettings, traits: PipelineTraits) -> ReferenceRule | None:
    """The pipeline's; a fake can stand for one with a control image, too."""
    is_controlled = settings.tasks and Task.EDIT not in settings.tasks
    if settings.backend is BackendKind.FAKE and is_controlled:
        return FAKE_BESIDE if "reference_images" in settings.parameters else traits.references
    return traits.references


def _parameters(settings: ModelSettings, traits: PipelineTraits) -> dict[str, bool]:
    """Those that requests may have: the pipeline's, but for what denoiser and config exclude."""
    names = {
        name
        for name in traits.parameters
        if not kept_from(name, settings.denoiser.kind, settings.memory)
    }
    if settings.parameters:
        # Beside an image to change, reference images may be required.
        always = {*listed_names(traits.tasks, {Support.ALWAYS}), "reference_images"}
        names &= {*settings.parameters, *always}
    return {name: has for name, has in traits.parameters.items() if name in names}


def _default_batch_size(traits: PipelineTraits) -> int:
    if traits.runs_whole:
        return bounds.MAX_BATCH_SIZE
    return bounds.MAX_ROW_COUNT


def _placements(groups: tuple[InstanceGroupSettings, ...]) -> tuple[Placement, ...]:
    """One for each worker: `count` on each GPU that a group names, or where its kind says."""
    return tuple(
        Placement(group.device, gpu)
        for group in groups or (InstanceGroupSettings(),)
        for gpu in group.gpus or (None,)
        for _ in range(group.count or 1)
    )


def _warmups(
    settings: ModelSettings, defaults: Defaults, traits: PipelineTraits
) -> tuple[Warmup, ...]:
    """As set, or one image; the fake has nothing to warm up.

    Of the default size, or of the smallest where requests run whole: some report no step, so that
    the whole image is made before anything is served.
    """
    smallest_px = traits.limits.min_size_px if traits.runs_whole else None
    one = WarmupSettings(width_px=smallest_px, height_px=smallest_px)
    usual = () if settings.backend is BackendKind.FAKE else (one,)
    return tuple(
        Warmup(
            width_px=_first(one.width_px, defaults.width_px),
            height_px=_first(one.height_px, defaults.height_px),
            batch_size=one.batch_size,
            count=one.count,
        )
        for one in settings.warmups or usual
    )


def _override_defaults(derived: Defaults, settings: DefaultSettings) -> Defaults:
    written = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return replace(derived, **{name: one for name, one in written.items() if one is not None})


def _override_limits(traits: PipelineTraits, settings: LimitSettings) -> Limits:
    derived = traits.limits
    largest_px = _first(settings.max_size_px, derived.max_size_px)
    # Without a number of its own, the area follows the edge that the config sets.
    pixel_count = _first(settings.max_pixel_count, largest_px**2)
    if traits.bounds_area:
        pixel_count = min(pixel_count, derived.max_pixel_count)
    return Limits(
        min_size_px=_first(settings.min_size_px, derived.min_size_px),
        max_size_px=largest_px,
        size_multiple_px=derived.size_multiple_px,
        max_pixel_count=pixel_count,
        max_step_count=_first(settings.max_step_count, derived.max_step_count),
        max_image_count=_first(settings.max_image_count, derived.max_image_count),
    )


def _first(setting: _Value | None, derived: _Value) -> _Value:
    return derived if setting is None else setting
