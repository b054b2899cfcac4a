"""Whether the schedulers that a config names can step its pipeline."""

from __future__ import annotations

from darkroom_server.domain.jobs import Task
from darkroom_server.domain.problems import ProblemLog, quoted
from darkroom_server.model_config.config_file import ConfigFile, did_you_mean
from darkroom_server.pipelines.schedulers import REFUSED
from darkroom_server.pipelines.traits import PipelineTraits


def check_schedulers(config: ConfigFile, traits: PipelineTraits, problems: ProblemLog) -> None:
    """Those that requests may name, and the one that they get if they name none."""
    for i, scheduler in enumerate(config.settings.schedulers):
        if scheduler not in {*traits.usable_schedulers, *traits.schedulers}:
            reason = REFUSED.get(scheduler)
            config.error(
                problems,
                f"{quoted(scheduler)} does not fit a {traits.pipeline_class}"
                f"{did_you_mean(scheduler, traits.usable_schedulers)}"
                f"{f': {reason}' if reason else ''} "
                f"(allowed: {', '.join(traits.usable_schedulers)})",
                "schedulers",
                index=i,
            )
    default = config.settings.defaults.scheduler
    tasks = frozenset(config.settings.tasks) or traits.tasks
    needing = sorted(task.value for task in tasks - {Task.TEXT_TO_IMAGE, Task.EDIT})
    can_begin = {*traits.noising_schedulers, traits.defaults.scheduler}
    if default in traits.usable_schedulers and default not in can_begin and needing:
        config.error(
            problems,
            f"default scheduler {quoted(default)} cannot begin with an image, which "
            f"{' and '.join(needing)} need: name the other tasks in 'tasks', or another default",
            *("defaults", "scheduler"),
        )
