"""A config's limits against what the model's denoiser can draw."""

from __future__ import annotations

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_file import ConfigFile
from darkroom_server.pipelines.traits import PipelineTraits


def check_limits(config: ConfigFile, traits: PipelineTraits, problems: ProblemLog) -> None:
    """Adds an error for an edge that would fail, a warning for an area that will not be had."""
    limits = config.settings.limits
    if limits.max_size_px is not None and limits.max_size_px > traits.most_px:
        config.error(
            problems,
            f"max_size_px {limits.max_size_px} is above {traits.most_px}, the longest edge that "
            f"this {traits.pipeline_class} has positions for",
            *("limits", "max_size_px"),
        )
    most_count = traits.limits.max_pixel_count
    if traits.bounds_area and (limits.max_pixel_count or 0) > most_count:
        config.warning(
            problems,
            f"max_pixel_count {limits.max_pixel_count} is above the {most_count} pixels that this "
            f"{traits.pipeline_class} can draw, which stay the limit",
            *("limits", "max_pixel_count"),
        )
