"""The models of a server, as `list_models` and `get_model` return them."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass

from darkroom.v1 import image_pb2, model_service_pb2


class Task(enum.Enum):
    """What a model can do, one of `Model.tasks`."""

    UNKNOWN = 0
    TEXT_TO_IMAGE = 1
    FILL = 2
    IMAGE_TO_IMAGE = 3
    EDIT = 4


class ModelState(enum.Enum):
    """Life cycle of a model's version; only READY ones serve."""

    UNKNOWN = 0
    UNLOADED = 1
    LOADING = 2
    READY = 3
    UNLOADING = 4
    FAILED = 5
    UNAVAILABLE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSpec:
    """A request field that the model takes; not `effective`: it takes it without effect."""

    field: str
    effective: bool
    min_value: float | None
    max_value: float | None
    default_value: float | None
    step_value: float | None


class LoadStage(enum.Enum):
    """Part of a load."""

    UNKNOWN = 0
    WAITING = 1
    STARTING = 2
    WEIGHTS = 3
    WARMUP = 4
    DONE = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """How far a load is. `total_bytes`: of weights, 0 when unknown."""

    stage: LoadStage
    loaded_bytes: int
    total_bytes: int
    completed_warmup_count: int
    total_warmup_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSharing:
    """How requests of a version share denoising steps.

    `is_exact`: every image has the bytes that it has alone. `max_row_count`: rows of the largest
    step that may be shared; 0 for none, with the `reason`, if it is known. `is_proving`: it is
    still being found out what may be shared.
    """

    is_exact: bool
    max_row_count: int
    is_proving: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a model. `digest` is the hex SHA-256 of its files."""

    version: int
    state: ModelState
    state_message: str
    labels: tuple[str, ...]
    digest: str
    memory_bytes: int
    weight_bytes: int
    load_time: datetime.datetime | None
    #: While it is LOADING.
    load_progress: LoadProgress | None
    #: Share of the requests naming no version that a label of it is given.
    traffic_percent: float
    #: While it is loaded.
    step_sharing: StepSharing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAdapter:
    """A version of an adapter; `is_default` is what requests get that name no version."""

    name: str
    version: int
    aliases: tuple[str, ...]
    labels: tuple[str, ...]
    ranks: tuple[int, ...]
    targets: tuple[str, ...]
    size_bytes: int
    digest: str
    default_weight: float
    trigger_words: tuple[str, ...]
    license: str
    is_default: bool


class SizeSource(enum.Enum):
    """The size of an edit whose request names none."""

    UNKNOWN = 0
    DEFAULT = 1
    FIRST = 2
    LAST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceImages:
    """How many reference images requests of a model may have; with a `min_count` of 0, none.

    `max_beside_count` of them may stand beside an image to begin with or, of a model that edits, to
    fill.
    """

    min_count: int
    max_count: int
    size_source: SizeSource
    max_beside_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model and its versions, highest first. `default_version` is None when none serves."""

    name: str
    display_name: str
    hub_id: str
    aliases: tuple[str, ...]
    tasks: tuple[Task, ...]
    state: ModelState
    state_message: str
    parameters: tuple[ParameterSpec, ...]
    schedulers: tuple[str, ...]
    default_scheduler: str
    dimension_multiple_px: int
    max_pixel_count: int
    max_image_count: int
    memory_bytes: int
    queued_request_count: int
    license: str
    default_version: int | None
    versions: tuple[ModelVersion, ...]
    #: All words that it was taught; empty for models that read any text.
    vocabulary: tuple[str, ...] = ()
    #: Prompts that a model of a small vocabulary draws well.
    example_prompts: tuple[str, ...] = ()
    #: By name and version.
    adapters: tuple[ModelAdapter, ...] = ()
    #: None: it takes none.
    reference_images: ReferenceImages | None = None
    #: Of its tasks, those for which requests that name no model get this one.
    default_tasks: tuple[Task, ...] = ()

    def parameter(self, field: str) -> ParameterSpec | None:
        """What the model says of a request field; None when it does not support it.

        Example: `model.parameter("guidance_scale").default_value`.
        """
        return next((each for each in self.parameters if each.field == field), None)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """A report of `load_model`: the model as it is, and how far the load is."""

    model: Model
    progress: LoadProgress


_TASKS = {task.value: task for task in Task}
_SIZE_SOURCES = {source.value: source for source in SizeSource}
_STATES = {state.value: state for state in ModelState}


_STAGES = {stage.value: stage for stage in LoadStage}


def load_report_of(message: model_service_pb2.LoadModelResponse) -> LoadReport:
    """The report from its message."""
    return LoadReport(model_of(message.model), _progress_of(message.progress))


def load_request(
    name: str, *, version: str, evict_idle: bool, force_reload: bool
) -> model_service_pb2.LoadModelRequest:
    """The request that loads a model."""
    return model_service_pb2.LoadModelRequest(
        name=name, version=version, evict_idle=evict_idle, force_reload=force_reload
    )


def unload_request(
    name: str, *, version: str, drain_s: float | None
) -> model_service_pb2.UnloadModelRequest:
    """The request that unloads a model; raises ValueError for a NaN `drain_s`."""
    request = model_service_pb2.UnloadModelRequest(name=name, version=version)
    if drain_s is not None:
        request.drain_duration.FromTimedelta(datetime.timedelta(seconds=drain_s))
    return request


def _adapter(message: model_service_pb2.ModelAdapter) -> ModelAdapter:
    return ModelAdapter(
        name=message.name,
        version=message.version,
        aliases=tuple(message.aliases),
        labels=tuple(message.labels),
        ranks=tuple(message.ranks),
        targets=tuple(message.targets),
        size_bytes=message.size_bytes,
        digest=message.digest,
        default_weight=message.default_weight,
        trigger_words=tuple(message.trigger_words),
        license=message.license,
        is_default=message.is_default,
    )


def _reference_images_of(message: model_service_pb2.Model) -> ReferenceImages | None:
    if not message.HasField("reference_images"):
        return None
    said = message.reference_images
    return ReferenceImages(
        min_count=said.min_count,
        max_count=said.max_count,
        size_source=_SIZE_SOURCES.get(said.size_source, SizeSource.UNKNOWN),
        max_beside_count=said.max_beside_count,
    )


def model_of(message: model_service_pb2.Model) -> Model:
    """The model from its message."""
    return Model(
        name=message.name,
        display_name=message.display_name,
        hub_id=message.hub_id,
        aliases=tuple(message.aliases),
        tasks=tuple(_TASKS.get(task, Task.UNKNOWN) for task in message.tasks),
        state=_STATES.get(message.state, ModelState.UNKNOWN),
        state_message=message.state_message,
        parameters=tuple(_parameter_of(each) for each in message.parameters),
        schedulers=tuple(message.schedulers),
        default_scheduler=message.default_scheduler,
        dimension_multiple_px=message.dimension_multiple_px,
        max_pixel_count=message.max_pixel_count,
        max_image_count=message.max_image_count,
        memory_bytes=message.memory_bytes,
        queued_request_count=message.queued_request_count,
        license=message.license,
        default_version=message.default_version or None,
        versions=tuple(_version_of(each) for each in message.versions),
        vocabulary=tuple(message.vocabulary.words),
        example_prompts=tuple(message.vocabulary.example_prompts),
        adapters=tuple(_adapter(each) for each in message.adapters),
        reference_images=_reference_images_of(message),
        default_tasks=tuple(_TASKS.get(task, Task.UNKNOWN) for task in message.default_tasks),
    )


def _version_of(message: model_service_pb2.ModelVersion) -> ModelVersion:
    loaded = message.HasField("load_time")
    return ModelVersion(
        version=message.version,
        state=_STATES.get(message.state, ModelState.UNKNOWN),
        state_message=message.state_message,
        labels=tuple(message.labels),
        digest=message.digest,
        memory_bytes=message.memory_bytes,
        weight_bytes=message.weight_bytes,
        load_time=message.load_time.ToDatetime(tzinfo=datetime.UTC) if loaded else None,
        load_progress=(
            _progress_of(message.load_progress) if message.HasField("load_progress") else None
        ),
        traffic_percent=message.traffic_percent,
        step_sharing=(
            _sharing_of(message.step_sharing) if message.HasField("step_sharing") else None
        ),
    )


def _sharing_of(message: model_service_pb2.StepSharing) -> StepSharing:
    return StepSharing(
        is_exact=message.level == image_pb2.REPRODUCIBILITY_EXACT,
        max_row_count=message.max_row_count,
        is_proving=message.proving,
        reason=message.reason,
    )


def _progress_of(message: model_service_pb2.LoadProgress) -> LoadProgress:
    return LoadProgress(
        stage=_STAGES.get(message.stage, LoadStage.UNKNOWN),
        loaded_bytes=message.loaded_bytes,
        total_bytes=message.total_bytes,
        completed_warmup_count=message.completed_warmup_count,
        total_warmup_count=message.total_warmup_count,
    )


def _parameter_of(message: model_service_pb2.ParameterSpec) -> ParameterSpec:
    return ParameterSpec(
        field=message.field,
        effective=message.effective,
        min_value=message.min_value if message.HasField("min_value") else None,
        max_value=message.max_value if message.HasField("max_value") else None,
        default_value=message.default_value if message.HasField("default_value") else None,
        step_value=message.step_value if message.HasField("step_value") else None,
    )
