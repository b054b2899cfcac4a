"""Models as tables and as JSON, for `darkroom models`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from rich.table import Table
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


def model_table(found: Iterable[Model]) -> Table:
    """A line for each model."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("name", "state", "versions", "tasks", "default size", "memory", "queue"):
        table.add_column(heading, overflow="fold")
    for model in found:
        # Text: a model's own words are never read as markup.
        table.add_row(
            Text(model.name.removeprefix("models/")),
            Text(_state(model)),
            Text(", ".join(_version(model, each.version) for each in model.versions)),
            Text(", ".join(_task(task) for task in model.tasks)),
            Text(_size(model)),
            Text(_memory(model.memory_bytes)),
            Text(str(model.queued_request_count or "-")),
        )
    return table


def version_table(found: Iterable[Model]) -> Table:
    """A line for each version, to be looked at again and again."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", "version", "state", "labels", "memory", "queue", "loaded"):
        table.add_column(heading, overflow="fold")
    for model in found:
        for i, version in enumerate(model.versions):
            loaded = version.load_time
            table.add_row(
                Text(model.name.removeprefix("models/") if i == 0 else ""),
                Text(_version(model, version.version)),
                Text(_version_state(version), style=_STYLES.get(version.state, "")),
                Text(_labels(version)),
                Text(_memory(version.memory_bytes)),
                Text(str(model.queued_request_count or "-") if i == 0 else ""),
                Text(f"{loaded.astimezone():%H:%M:%S}" if loaded else "-"),
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
    told = [
        Text(""),
        Text("It was taught these words; a prompt with others is answered with a warning:"),
        Text(" ".join(model.vocabulary)),
    ]
    if model.example_prompts:
        told += [Text(""), Text("Prompts to try:")]
        told += [Text(f"  {prompt}") for prompt in model.example_prompts]
    return told


def _version_state(version: ModelVersion) -> str:
    state, progress = version.state.name.lower(), version.load_progress
    if progress is not None:
        total = progress.total_bytes
        share = f" {progress.loaded_bytes / total:.0%}" if total else ""
        return f"{state}{share}: {stage_text(progress)}"
    return f"{state}: {version.state_message}" if version.state_message else state


def _labels(version: ModelVersion) -> str:
    share = f" ({version.traffic_percent:g}% of requests)" if version.traffic_percent else ""
    return (", ".join(version.labels) or "-") + share


def _state(model: Model) -> str:
    state = model.state.name.lower()
    return f"{state}: {model.state_message}" if model.state_message else state


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
    values = asdict(model)
    values["tasks"] = [_task(task) for task in model.tasks]
    values["state"] = model.state.name.lower()
    for version in values["versions"]:
        state: ModelState = version["state"]
        version["state"] = state.name.lower()
        if version["load_progress"]:
            version["load_progress"]["stage"] = version["load_progress"]["stage"].name.lower()
        loaded = version["load_time"]
        version["load_time"] = loaded.isoformat() if loaded else None
    return values
