"""Models and their versions become `darkroom.v1.Model`."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from darkroom.v1 import image_pb2
from darkroom.v1 import model_service_pb2 as pb
from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.model_status import (
    LoadProgress,
    LoadStage,
    ModelStatus,
    StepSharing,
    VersionState,
    VersionStatus,
)
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.references import SizeSource
from darkroom_server.engine.model_control import LoadReport
from darkroom_server.parameters.parameter import Default, Kind
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.wire.adapter_messages import adapter_messages

_TASKS: Mapping[Task, pb.Model.Task.ValueType] = {
    Task.TEXT_TO_IMAGE: pb.Model.TASK_TEXT_TO_IMAGE,
    Task.FILL: pb.Model.TASK_FILL,
    Task.IMAGE_TO_IMAGE: pb.Model.TASK_IMAGE_TO_IMAGE,
    Task.EDIT: pb.Model.TASK_EDIT,
}
_SIZE_SOURCES: Mapping[SizeSource, pb.ReferenceImages.SizeSource.ValueType] = {
    SizeSource.DEFAULT: pb.ReferenceImages.SIZE_SOURCE_DEFAULT,
    SizeSource.FIRST: pb.ReferenceImages.SIZE_SOURCE_FIRST,
    SizeSource.LAST: pb.ReferenceImages.SIZE_SOURCE_LAST,
}
_STATES: Mapping[VersionState, pb.Model.State.ValueType] = {
    VersionState.UNLOADED: pb.Model.STATE_UNLOADED,
    VersionState.LOADING: pb.Model.STATE_LOADING,
    VersionState.READY: pb.Model.STATE_READY,
    VersionState.UNAVAILABLE: pb.Model.STATE_UNAVAILABLE,
    VersionState.UNLOADING: pb.Model.STATE_UNLOADING,
    VersionState.FAILED: pb.Model.STATE_FAILED,
}
_STAGES: Mapping[LoadStage, pb.LoadProgress.Stage.ValueType] = {
    LoadStage.WAITING: pb.LoadProgress.STAGE_WAITING,
    LoadStage.STARTING: pb.LoadProgress.STAGE_STARTING,
    LoadStage.WEIGHTS: pb.LoadProgress.STAGE_WEIGHTS,
    LoadStage.WARMUP: pb.LoadProgress.STAGE_WARMUP,
    LoadStage.DONE: pb.LoadProgress.STAGE_DONE,
}
_LEVELS: Mapping[Reproducibility, image_pb2.Reproducibility.ValueType] = {
    Reproducibility.TOLERANCE: image_pb2.REPRODUCIBILITY_TOLERANCE,
    Reproducibility.EXACT: image_pb2.REPRODUCIBILITY_EXACT,
}


def model_message(status: ModelStatus) -> pb.Model:
    """The model with its versions, highest first."""
    model = status.model
    shown = status.shown_version
    return pb.Model(
        name=f"models/{model.name}",
        display_name=model.display_name,
        hub_id=model.hub_id,
        aliases=model.aliases,
        tasks=sorted(_TASKS[task] for task in model.tasks),
        state=_STATES[shown.state] if shown else pb.Model.STATE_UNLOADED,
        state_message=shown.message if shown else "",
        parameters=[
            _parameter(field, effective, model) for field, effective in model.parameters.items()
        ],
        schedulers=model.schedulers,
        default_scheduler=model.defaults.scheduler,
        dimension_multiple_px=model.limits.size_multiple_px,
        max_pixel_count=model.limits.max_pixel_count,
        max_image_count=model.limits.max_image_count,
        memory_bytes=sum(version.memory_bytes for version in status.versions),
        queued_request_count=status.queued_request_count,
        license=model.license,
        default_version=status.default_version or 0,
        versions=[_version(version) for version in status.versions],
        reproducibility=_LEVELS[model.reproducibility],
        denoiser=model.runtime_label,
        vocabulary=_vocabulary(model),
        adapters=adapter_messages(status.adapters),
        reference_images=_reference_images(model),
        default_tasks=sorted(_TASKS[task] for task in status.default_tasks),
    )


def _reference_images(model: ModelInfo) -> pb.ReferenceImages | None:
    rule = model.references
    if rule is not None and rule.is_beside:
        # The size is that of the image to change.
        return pb.ReferenceImages(
            min_count=int(rule.is_required),
            max_count=rule.max_count,
            max_beside_count=rule.max_count,
        )
    if rule is None or Task.EDIT not in model.tasks:
        return None
    return pb.ReferenceImages(
        min_count=0 if Task.TEXT_TO_IMAGE in model.tasks else 1,
        max_count=rule.max_count,
        size_source=_SIZE_SOURCES[rule.size_source],
        max_beside_count=rule.beside_count(is_filled=Task.FILL in model.tasks),
    )


def _vocabulary(model: ModelInfo) -> pb.Vocabulary | None:
    vocabulary = model.vocabulary
    if not vocabulary.words:
        return None
    return pb.Vocabulary(words=vocabulary.words, example_prompts=vocabulary.example_prompts)


def load_message(report: LoadReport) -> pb.LoadModelResponse:
    """A report of a load."""
    return pb.LoadModelResponse(
        model=model_message(report.status),
        loaded_bytes=report.progress.loaded_bytes,
        total_bytes=report.progress.total_bytes,
        progress=_progress(report.progress),
    )


def _progress(progress: LoadProgress) -> pb.LoadProgress:
    return pb.LoadProgress(
        stage=_STAGES[progress.stage],
        loaded_bytes=progress.loaded_bytes,
        total_bytes=progress.total_bytes,
        completed_warmup_count=progress.completed_warmup_count,
        total_warmup_count=progress.total_warmup_count,
    )


def _version(version: VersionStatus) -> pb.ModelVersion:
    message = pb.ModelVersion(
        version=version.version,
        state=_STATES[version.state],
        state_message=version.message,
        labels=version.labels,
        digest=version.digest,
        memory_bytes=version.memory_bytes,
        weight_bytes=version.weight_bytes,
        traffic_percent=version.traffic_percent,
    )
    if version.progress is not None:
        message.load_progress.CopyFrom(_progress(version.progress))
    if version.step_sharing is not None:
        message.step_sharing.CopyFrom(_step_sharing(version.step_sharing))
    if version.loaded_at_s is not None:
        loaded = Timestamp()
        loaded.FromNanoseconds(round(version.loaded_at_s * 1e9))
        message.load_time.CopyFrom(loaded)
    return message


def _step_sharing(sharing: StepSharing) -> pb.StepSharing:
    return pb.StepSharing(
        level=_LEVELS[sharing.level],
        max_row_count=sharing.max_row_count,
        proving=sharing.is_proving,
        reason=sharing.reason,
    )


def _parameter(field: str, effective: bool, model: ModelInfo) -> pb.ParameterSpec:
    """What a form needs to know of a field; those that are no numbers have no range."""
    spec = pb.ParameterSpec(field=field, effective=effective)
    parameter = PARAMETERS.get(field)
    if parameter is None:
        return spec
    if parameter.kind is Kind.FLAG:
        spec.min_value, spec.max_value, spec.step_value = 0, 1, 1
    elif parameter.lowest is not None and parameter.highest is not None:
        spec.min_value = _bound(model, parameter.model_lowest, parameter.lowest)
        spec.max_value = _bound(model, parameter.model_highest, parameter.highest)
        if parameter.kind is Kind.WHOLE:
            spec.step_value = _bound(model, parameter.model_step, 1)
    else:
        return spec
    if parameter.default is Default.MODEL:
        spec.default_value = getattr(model.defaults, field)
    elif not isinstance(parameter.default, Default):
        spec.default_value = parameter.default
    return spec


def _bound(model: ModelInfo, name: str, otherwise: float) -> float:
    """The model's limit of that name."""
    return float(getattr(model.limits, name)) if name else otherwise
