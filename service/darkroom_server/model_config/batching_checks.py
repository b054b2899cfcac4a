"""Checks of how a config's requests wait for workers and run together."""

from __future__ import annotations

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.bounds import MAX_BATCH_SIZE
from darkroom_server.model_config.config_file import ConfigFile

_MAX_QUEUE_DELAY_US = 60_000_000


def check_dynamic_batching(config: ConfigFile, problems: ProblemLog) -> None:
    """Delay, batch sizes and levels of priority."""
    batching, most = config.settings.dynamic_batching, config.settings.max_batch_size
    most = MAX_BATCH_SIZE if most is None else most
    delay_us = round(batching.max_queue_delay_s * 1e6)
    if delay_us > _MAX_QUEUE_DELAY_US:
        config.error(
            problems,
            f"max_queue_delay_microseconds must be 0 to {_MAX_QUEUE_DELAY_US}, not {delay_us}",
            *("dynamic_batching", "max_queue_delay_microseconds"),
        )
    for i, size in enumerate(batching.preferred_batch_sizes):
        if not 1 <= size <= most:
            config.error(
                problems,
                f"preferred_batch_size must be 1 to max_batch_size, which is {most}, not {size}",
                *("dynamic_batching", "preferred_batch_size"),
                index=i,
            )
    _check_levels(config, problems)


def _check_levels(config: ConfigFile, problems: ProblemLog) -> None:
    batching = config.settings.dynamic_batching
    levels, default = batching.priority_levels, batching.default_priority_level
    path = ("dynamic_batching", "default_priority_level")
    has_levels = bool(config.source.find("dynamic_batching", "priority_levels"))
    if config.source.find(*path) is not None and not has_levels:
        config.error(problems, "default_priority_level needs priority_levels", *path)
    elif not 1 <= default <= levels:
        config.error(
            problems,
            f"default_priority_level must be 1 to priority_levels, which is {levels}, "
            f"not {default}",
            *(path if config.source.find(*path) else ("dynamic_batching", "priority_levels")),
        )
    for i, (level, _) in enumerate(batching.queue_policies):
        if not 1 <= level <= levels:
            config.error(
                problems,
                f"priority_queue_policy is for levels 1 to {levels}, not {level}",
                *("dynamic_batching", "priority_queue_policy"),
                index=i,
            )
