"""Models as tables and as JSON, for `darkroom models`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from enum import Enum

from rich.text import Text

from darkroom_client import (
    LoadProgress,
    LoadStage,
    Model,
    ModelState,
    ModelVersion,
    StepSharing,
    Task,
)
from darkroom_server.cli.tables import Columns

_STAGES = {
    LoadStage.UNKNOWN: "loading",
    LoadStage.WAITING: "waiting for memory",
    LoadStage.STARTING: "starting a worker",
    LoadStage.WEIGHTS: "reading weights",
    LoadStage.WARMUP: "warming up",
    LoadStage.DONE: "ready",
}
_STYLES = {
    ModelState.READY: "green",
    ModelState.LOADING: "yellow",
    ModelState.UNLOADING: "yellow",
    ModelState.UNAVAILABLE: "red",
    ModelState.FAILED: "bold red",
}


def stage_text(progress: LoadProgress) -> str:
    """What a load is doing, in a few words."""
    text = _STAGES[progress.stage]
    if progress.stage is LoadStage.WARMUP and progress.total_warmup_count:
        return f"{text}, {progress.completed_warmup_count} of {progress.total_warmup_count}"
    return text


def model_table(found: Iterable[Model]) -> Columns:
    """A line for each model."""
    table = Columns(
        ("name", "state", "versions", "tasks", "default size", "memory", "queue"),
    )
    for model in found:
        table.add(
            model.name.removeprefix("models/"),
            Text(_state(model), style=_STYLES.get(model.state, "")),
            ", ".join(_marked_version(model, each) for each in model.versions) or "-",
            ", ".join(_task(task) for task in model.tasks) or "-",
            _size(model),
            _memory(model.memory_bytes),
            str(model.queued_request_count or "-"),
        )
    return table


#: What the marks in the column of versions say.
VERSION_MARKS = "A star marks the default version; versions in brackets are on disk, not loaded."


def version_table(found: Iterable[Model]) -> Columns:
    """A line for each version, for repeated display."""
    table = Columns(("model", "version", "state", "labels", "memory", "queue", "loaded"))
    for model in found:
        for version in model.versions:
            loaded = version.load_time
            table.add(
                model.name.removeprefix("models/"),
                _version(model, version.version),
                Text(_version_state(version), style=_STYLES.get(version.state, "")),
                _labels(version),
                _memory(version.memory_bytes),
                str(model.queued_request_count or "-"),
                f"{loaded.astimezone():%H:%M:%S}" if loaded else "-",
            )
    return table


def sharing_text(model: Model) -> list[Text]:
    """How each loaded version's requests share steps, a line each."""
    return [
        Text(f"Version {version.version} {_sharing(version.step_sharing)}.")
        for version in model.versions
        if version.step_sharing is not None
    ]


def _sharing(sharing: StepSharing) -> str:
    more = ", and more is being proved" if sharing.is_proving else ""
    if not sharing.max_row_count:
        why = f": {sharing.reason}" if sharing.reason else ""
        return f"shares no steps yet{more}" if more else f"shares no steps{why}"
    how = "bit-exact" if sharing.is_exact else "within a tolerance"
    return f"shares steps, {how}: up to {sharing.max_row_count} rows{more}"


def vocabulary_text(model: Model) -> list[Text]:
    """What a model of a small vocabulary reads, in paragraphs; none for other models."""
    if not model.vocabulary:
        return []
    lines = [
        Text(""),
        Text("It was taught these words; a prompt with others is answered with a warning:"),
        Text(" ".join(model.vocabulary)),
    ]
    if model.example_prompts:
        lines += [Text(""), Text("Prompts to try:")]
        lines += [Text(f"  {prompt}") for prompt in model.example_prompts]
    return lines


def _version_state(version: ModelVersion) -> str:
    state, progress = _state_name(version.state), version.load_progress
    if progress is not None:
        total = progress.total_bytes
        share = f" {progress.loaded_bytes / total:.0%}" if total else ""
        return f"{state}{share}: {stage_text(progress)}"
    return f"{state}: {version.state_message}" if version.state_message else state


def _labels(version: ModelVersion) -> str:
    share = f" ({version.traffic_percent:g}% of requests)" if version.traffic_percent else ""
    return (", ".join(version.labels) or "-") + share


def _state(model: Model) -> str:
    state = _state_name(model.state)
    return f"{state}: {model.state_message}" if model.state_message else state


def _state_name(state: ModelState) -> str:
    """A state in words; what is known but not in memory only lies on the disk."""
    return "not loaded" if state is ModelState.UNLOADED else state.name.lower()


def _marked_version(model: Model, version: ModelVersion) -> str:
    name = _version(model, version.version)
    return f"({name})" if version.state is ModelState.UNLOADED else name


def _version(model: Model, version: int) -> str:
    return f"{version}*" if version == model.default_version else str(version)


def _task(task: Task) -> str:
    return task.name.lower().replace("_", "-")


def _size(model: Model) -> str:
    width, height = model.parameter("width_px"), model.parameter("height_px")
    if width is None or height is None or not width.default_value or not height.default_value:
        return "-"
    return f"{width.default_value:.0f}x{height.default_value:.0f}"


def _memory(memory_bytes: int) -> str:
    return f"{memory_bytes / 2**20:,.0f} MiB" if memory_bytes else "-"


def as_json(model: Model) -> dict[str, object]:
    """All that is known of a model."""
    return {name: _plain(value) for name, value in asdict(model).items()}


def _plain(value: object) -> object:
    """A value as JSON has it: names for what is enumerated, times in ISO 8601."""
    match value:
        case Task():
            return _task(value)
        case Enum():
            return value.name.lower()
        case datetime():
            return value.isoformat()
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value
