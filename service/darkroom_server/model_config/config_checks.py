"""Checks of a config that was read: alone, against the versions there, and against a pipeline."""

from __future__ import annotations

import math
from collections.abc import Iterable

from darkroom_server.domain.jobs import Reproducibility
from darkroom_server.domain.models import BackendKind, DeviceKind, ModelInfo
from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.model_config.batching_checks import check_dynamic_batching
from darkroom_server.model_config.config_fake import fake_ranges
from darkroom_server.model_config.config_file import ConfigFile, did_you_mean
from darkroom_server.model_config.denoiser_checks import (
    check_compiled_sizes,
    check_denoiser_alone,
    check_denoiser_of,
)
from darkroom_server.model_config.label_checks import (
    check_labels,
    check_labels_against_versions,
    check_traffic,
    listed,
)
from darkroom_server.model_config.limit_checks import check_limits
from darkroom_server.model_config.model_info import combine
from darkroom_server.model_config.prompt_checks import check_prompt_upsampling
from darkroom_server.model_config.scheduler_checks import check_schedulers
from darkroom_server.model_config.settings import LatestVersions, SpecificVersions
from darkroom_server.model_config.training_checks import check_trained_sizes, check_vocabulary
from darkroom_server.parameters import bounds
from darkroom_server.parameters.parameter import Default
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.pipelines.traits import REQUEST_FIELDS, PipelineTraits

_MAX_COUNT = 1_000_000

#: Smallest tile of the VAE, and what sizes of tiles are multiples of.
MIN_TILE_PX = 64
_MAX_WARMUP_COUNT = 100

#: Lowest and highest values of the parameters that are numbers.
_RANGES = {
    path: (one.lowest, one.highest)
    for path, one in PARAMETERS.items()
    if one.lowest is not None and one.highest is not None
}
#: The same for the defaults and the limits that a model has of them.
_DEFAULT_RANGES = {
    path: range_ for path, range_ in _RANGES.items() if PARAMETERS[path].default is Default.MODEL
}
_LIMIT_RANGES = {
    name: range_
    for path, range_ in _RANGES.items()
    for name in (PARAMETERS[path].model_lowest, PARAMETERS[path].model_highest)
    if name
}

#: Workers of one version; each holds a copy of the weights.
MAX_WORKER_COUNT = 64


def check_alone(config: ConfigFile, problems: ProblemLog) -> None:
    """What can be said without looking at any version."""
    name = config.settings.name
    if name and name != problems.model:
        config.error(
            problems,
            f"name is {quoted(name)}, but the folder is {quoted(problems.model)}: "
            "make them equal or leave the name out",
            "name",
        )
    _check_ranges(config, problems)
    _check_names(config, problems)
    check_labels(config, problems)
    _check_instance_groups(config, problems)
    check_dynamic_batching(config, problems)
    check_denoiser_alone(config, problems)
    _check_memory(config, problems)
    check_traffic(config, problems)
    _check_warmups(config, problems)
    check_vocabulary(config, problems)
    check_trained_sizes(config, problems)
    check_prompt_upsampling(config, problems)
    settings = config.settings
    has_fake = config.source.find("fake") is not None
    if has_fake and settings.backend is not BackendKind.FAKE:
        config.warning(problems, "'fake' has no effect without backend: BACKEND_FAKE", "fake")


def _check_ranges(config: ConfigFile, problems: ProblemLog) -> None:
    settings, limits, defaults = config.settings, config.settings.limits, config.settings.defaults
    area = (bounds.MIN_SIZE_PX**2, bounds.MAX_SIZE_PX**2)
    ranges: tuple[tuple[tuple[str, ...], float | None, tuple[float, float]], ...] = (
        (("max_batch_size",), settings.max_batch_size, (1, _MAX_COUNT)),
        (("max_queue_size",), settings.max_queue_size, (1, _MAX_COUNT)),
        (("limits", "max_pixel_count"), limits.max_pixel_count, area),
        *(
            (("limits", name), getattr(limits, name), range_)
            for name, range_ in _LIMIT_RANGES.items()
        ),
        *(
            (("defaults", name), getattr(defaults, name), range_)
            for name, range_ in _DEFAULT_RANGES.items()
        ),
        *fake_ranges(settings.fake),
    )
    for path, value, (low, high) in ranges:
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            config.error(
                problems, f"{path[-1]} must be {low:.15g} to {high:.15g}, not {value:.15g}", *path
            )
    if defaults.strength == 0:
        config.error(problems, "strength must be above 0, or no step runs", "defaults", "strength")
    policy = settings.version_policy
    if isinstance(policy, LatestVersions) and policy.count < 1:
        path = ("version_policy", "latest", "num_versions")
        config.error(problems, f"num_versions must be at least 1, not {policy.count}", *path)


def _check_names(config: ConfigFile, problems: ProblemLog) -> None:
    for path, values in (
        (("aliases",), config.settings.aliases),
        (("schedulers",), config.settings.schedulers),
        (("parameters",), config.settings.parameters),
    ):
        for i, value in enumerate(values):
            if not value or not value.isprintable() or value != value.strip():
                config.error(problems, f"{quoted(value)} is not a name", *path, index=i)
            elif value in values[:i]:
                config.warning(problems, f"{quoted(value)} is named twice", *path, index=i)


def _check_warmups(config: ConfigFile, problems: ProblemLog) -> None:
    for i, warmup in enumerate(config.settings.warmups):
        for key, value, most in (
            ("batch_size", warmup.batch_size, bounds.MAX_IMAGE_COUNT),
            ("count", warmup.count, _MAX_WARMUP_COUNT),
            ("width_px", warmup.width_px, bounds.MAX_SIZE_PX),
            ("height_px", warmup.height_px, bounds.MAX_SIZE_PX),
        ):
            if value is not None and not 1 <= value <= most:
                config.error(
                    problems, f"{key} must be 1 to {most}, not {value}", "model_warmup", index=i
                )


def _check_instance_groups(config: ConfigFile, problems: ProblemLog) -> None:
    groups = config.settings.instance_groups
    for i, group in enumerate(groups):
        if group.count is not None and group.count < 1:
            config.error(
                problems, f"count must be at least 1, not {group.count}", "instance_group", index=i
            )
        if any(gpu < 0 for gpu in group.gpus):
            config.error(problems, "gpus are numbers from 0 on", "instance_group", index=i)
        if group.gpus and group.device is DeviceKind.CPU:
            config.error(problems, "KIND_CPU has no gpus", "instance_group", index=i)
    count = sum((group.count or 1) * max(1, len(group.gpus)) for group in groups)
    if count > MAX_WORKER_COUNT:
        config.error(
            problems,
            f"{count} workers are more than the {MAX_WORKER_COUNT} that a version may have",
            "instance_group",
        )


def _check_memory(config: ConfigFile, problems: ProblemLog) -> None:
    settings, memory = config.settings, config.settings.memory
    tile_px = memory.vae_tiling_px
    if tile_px is not None and (tile_px % MIN_TILE_PX or not 0 < tile_px <= bounds.MAX_SIZE_PX):
        config.error(
            problems,
            f"vae_tiling_above_px must be a multiple of {MIN_TILE_PX} up to {bounds.MAX_SIZE_PX}, "
            f"not {tile_px}",
            "vae_tiling_above_px",
        )
    if memory.quantization is None and config.source.find("quantization") is not None:
        config.error(problems, "quantization needs a method", "quantization")
    if memory.quantization is not None and memory.storage is not None:
        config.error(problems, "storage_dtype and quantization exclude each other", "storage_dtype")
    if memory.channels_last and settings.reproducibility is Reproducibility.EXACT:
        config.error(
            problems,
            "MEMORY_FORMAT_CHANNELS_LAST has not the bytes of the diffusers pipeline, "
            "which REPRODUCIBILITY_EXACT promises: set REPRODUCIBILITY_TOLERANCE",
            "memory_format",
        )


def check_against_versions(
    config: ConfigFile, complete: Iterable[int], serving: Iterable[int], problems: ProblemLog
) -> None:
    """Whether the versions that the policy and the labels name are there and serve."""
    known, served = set(complete), set(serving)
    policy = config.settings.version_policy
    if isinstance(policy, SpecificVersions):
        if not policy.versions:
            config.error(problems, "names no version", "version_policy", "specific")
        for i, version in enumerate(policy.versions):
            if version not in known:
                path = ("version_policy", "specific", "versions")
                config.error(
                    problems,
                    f"version {version} is not there, or not whole (there: {listed(known)})",
                    *path,
                    index=i,
                )
    check_labels_against_versions(config, known, served, problems)


def check_against_traits(config: ConfigFile, traits: PipelineTraits, problems: ProblemLog) -> None:
    """Whether the pipeline can do what the config says, and the whole is consistent."""
    before = problems.error_count
    settings = config.settings
    if config.source.find("dynamic_batching") is not None and not traits.runs_whole:
        config.warning(
            problems,
            f"'dynamic_batching' has no effect on a {traits.pipeline_class}, whose requests share "
            "denoising steps instead",
            "dynamic_batching",
        )
    check_denoiser_of(config, traits, problems)
    for i, task in enumerate(settings.tasks):
        if task not in traits.tasks:
            config.error(
                problems, f"a {traits.pipeline_class} cannot do {task.value}", "tasks", index=i
            )
    check_schedulers(config, traits, problems)
    for i, field in enumerate(settings.parameters):
        if field not in REQUEST_FIELDS:
            config.error(
                problems,
                f"{quoted(field)} is no request field{did_you_mean(field, REQUEST_FIELDS)} "
                f"(known: {', '.join(REQUEST_FIELDS)})",
                "parameters",
                index=i,
            )
        elif field not in traits.parameters:
            config.error(
                problems,
                f"a {traits.pipeline_class} cannot honour {quoted(field)}",
                "parameters",
                index=i,
            )
    check_limits(config, traits, problems)
    if problems.error_count == before:
        info = combine(problems.model, settings, traits)
        _check_consistency(config, info, problems)
        _check_warmup_sizes(config, info, problems)


def _check_consistency(config: ConfigFile, info: ModelInfo, problems: ProblemLog) -> None:
    limits, defaults = info.limits, info.defaults
    check_compiled_sizes(config, info, problems)
    if limits.min_size_px > limits.max_size_px:
        config.error(
            problems,
            f"min_size_px {limits.min_size_px} is above max_size_px {limits.max_size_px}",
            *_first_written(config, ("limits", "min_size_px"), ("limits", "max_size_px")),
        )
    for key, size_px in (("width_px", defaults.width_px), ("height_px", defaults.height_px)):
        path = _first_written(
            config, ("defaults", key), ("limits", "max_size_px"), ("limits", "min_size_px")
        )
        if not limits.min_size_px <= size_px <= limits.max_size_px:
            span = f"{limits.min_size_px} to {limits.max_size_px}"
            config.error(problems, f"default {key} {size_px} is not in the limits {span}", *path)
        if size_px % limits.size_multiple_px:
            multiple = limits.size_multiple_px
            message = f"default {key} {size_px} is not a multiple of {multiple}"
            config.error(problems, message, *path)
    if defaults.width_px * defaults.height_px > limits.max_pixel_count:
        config.error(
            problems,
            f"the default size {defaults.width_px}x{defaults.height_px} has more pixels than "
            f"max_pixel_count {limits.max_pixel_count}",
            *_first_written(config, ("limits", "max_pixel_count"), ("defaults", "width_px")),
        )
    if defaults.step_count > limits.max_step_count:
        config.error(
            problems,
            f"default step_count {defaults.step_count} is above max_step_count "
            f"{limits.max_step_count}",
            *_first_written(config, ("defaults", "step_count"), ("limits", "max_step_count")),
        )
    if defaults.scheduler not in info.schedulers:
        config.error(
            problems,
            f"default scheduler {quoted(defaults.scheduler)} is not allowed"
            f"{did_you_mean(defaults.scheduler, info.schedulers)} "
            f"(allowed: {', '.join(info.schedulers)})",
            *_first_written(config, ("defaults", "scheduler"), ("schedulers",)),
        )


def _check_warmup_sizes(config: ConfigFile, info: ModelInfo, problems: ProblemLog) -> None:
    limits = info.limits
    for i, warmup in enumerate(info.warmups if config.settings.warmups else ()):
        too_large = warmup.width_px * warmup.height_px > limits.max_pixel_count
        for size_px in (warmup.width_px, warmup.height_px):
            on_grid = size_px % limits.size_multiple_px == 0
            if too_large or not (limits.min_size_px <= size_px <= limits.max_size_px and on_grid):
                config.error(
                    problems,
                    f"{warmup.width_px}x{warmup.height_px} is no size that requests may ask for",
                    "model_warmup",
                    index=i,
                )


def _first_written(config: ConfigFile, *paths: tuple[str, ...]) -> tuple[str, ...]:
    return next((path for path in paths if config.source.find(*path) is not None), paths[0])
