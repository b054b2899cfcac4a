"""What the server and its models are, in the words of the Open Inference Protocol."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from typing import Final

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_server.domain.dynamic_batching import TimeoutAction
from darkroom_server.domain.errors import ModelNotFound
from darkroom_server.domain.model_status import ModelStatus, VersionState, VersionStatus
from darkroom_server.domain.models import DeviceKind, ModelInfo, Placement
from darkroom_server.parameters.parameter import Kind, Parameter
from darkroom_server.wire.kserve.inference import OUTPUTS
from darkroom_server.wire.kserve.inputs import inputs_of, tensor_datatype, tensor_name
from darkroom_server.wire.kserve.tensors import BYTES

SERVER_NAME: Final = "darkroom"
#: What the server speaks besides the protocol itself, by Triton's names.
EXTENSIONS: Final = (
    *("binary_tensor_data", "generate", "logging", "model_configuration", "model_repository"),
    *("parameters", "schedule_policy", "statistics", "trace"),
)
#: The prompt is the one input that a request to draw cannot leave out.
_REQUIRED = "prompt"
_DATA_TYPES: Final[Mapping[str, pb.DataType.ValueType]] = {
    BYTES: pb.TYPE_STRING,
    "BOOL": pb.TYPE_BOOL,
    "FP32": pb.TYPE_FP32,
    "INT32": pb.TYPE_INT32,
    "UINT64": pb.TYPE_UINT64,
}
_KINDS: Final[Mapping[DeviceKind, pb.ModelInstanceGroup.Kind.ValueType]] = {
    DeviceKind.AUTO: pb.ModelInstanceGroup.KIND_AUTO,
    DeviceKind.GPU: pb.ModelInstanceGroup.KIND_GPU,
    DeviceKind.CPU: pb.ModelInstanceGroup.KIND_CPU,
}
_STATES: Final[Mapping[VersionState, str]] = {
    VersionState.UNLOADED: "UNAVAILABLE",
    VersionState.LOADING: "LOADING",
    VersionState.READY: "READY",
    VersionState.UNAVAILABLE: "UNAVAILABLE",
    VersionState.UNLOADING: "UNLOADING",
    VersionState.FAILED: "UNAVAILABLE",
}


@functools.cache
def _server_version() -> str:
    return importlib.metadata.version("darkroom-server")


def server_metadata() -> pb.ServerMetadataResponse:
    """Name, version and extensions."""
    return pb.ServerMetadataResponse(
        name=SERVER_NAME, version=_server_version(), extensions=EXTENSIONS
    )


def chosen_version(status: ModelStatus, version: str) -> VersionStatus | None:
    """The version that a number or a label names, without one the default, if there is any.

    Raises ModelNotFound.
    """
    if not version:
        return status.shown_version
    for one in status.versions:
        if version == str(one.version) or version in one.labels:
            return one
    known = ", ".join(str(one.version) for one in status.versions) or "none"
    name = status.model.name
    raise ModelNotFound(name, f"model {name} has no version {version[:64]!r} (known: {known})")


def model_metadata(status: ModelStatus, version: str) -> pb.ModelMetadataResponse:
    """The tensors of a model; raises ModelNotFound for a version that there is not."""
    chosen = chosen_version(status, version)
    shown = [chosen] if version and chosen else status.versions
    tensor = pb.ModelMetadataResponse.TensorMetadata
    return pb.ModelMetadataResponse(
        name=status.model.name,
        versions=map(str, sorted(one.version for one in shown)),
        platform=platform_of(status.model),
        inputs=[
            tensor(name=tensor_name(one), datatype=tensor_datatype(one), shape=[_dim(one)])
            for one in inputs_of(status.model)
        ],
        outputs=[
            tensor(name=name, datatype=datatype, shape=[-1]) for name, datatype in OUTPUTS.items()
        ],
    )


def _dim(parameter: Parameter) -> int:
    """How many elements an input has; -1: any number."""
    return -1 if parameter.kind is Kind.PICTURES else 1


def platform_of(model: ModelInfo) -> str:
    """What runs the model."""
    return f"{SERVER_NAME}_{model.backend.value}"


def model_config(status: ModelStatus, version: str) -> pb.ModelConfig:
    """The configuration; raises ModelNotFound for a version that there is not.

    A request is one prompt, so clients do not batch: `max_batch_size` is 0, and the rows that the
    server puts together are among the parameters.
    """
    chosen_version(status, version)
    model = status.model
    config = pb.ModelConfig(
        name=model.name,
        platform=platform_of(model),
        backend=SERVER_NAME,
        max_batch_size=0,
        input=[
            pb.ModelInput(
                name=tensor_name(one),
                data_type=_DATA_TYPES[tensor_datatype(one)],
                dims=[_dim(one)],
                optional=one.path != _REQUIRED,
            )
            for one in inputs_of(model)
        ],
        output=[
            pb.ModelOutput(name=name, data_type=_DATA_TYPES[datatype], dims=[-1])
            for name, datatype in OUTPUTS.items()
        ],
        instance_group=[_group(model, place, at) for at, place in enumerate(model.placements)],
        parameters={
            key: pb.ModelParameter(string_value=value) for key, value in _parameters(model).items()
        },
        # Both ways of asking are open to every model.
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )
    config.version_policy.specific.versions.extend(one.version for one in status.versions)
    _write_batching(config, model)
    return config


def _group(model: ModelInfo, place: Placement, at: int) -> pb.ModelInstanceGroup:
    return pb.ModelInstanceGroup(
        name=f"{model.name}_{at}",
        count=1,
        kind=_KINDS[place.device],
        gpus=[] if place.gpu is None else [place.gpu],
    )


def _write_batching(config: pb.ModelConfig, model: ModelInfo) -> None:
    batching, policy = model.dynamic_batching, model.dynamic_batching.default_queue_policy
    written = config.dynamic_batching
    written.preferred_batch_size.extend(batching.preferred_batch_sizes)
    written.max_queue_delay_microseconds = round(batching.max_queue_delay_s * 1e6)
    written.priority_levels = batching.priority_levels
    written.default_priority_level = batching.default_priority_level
    written.default_queue_policy.timeout_action = (
        pb.ModelQueuePolicy.DELAY
        if policy.timeout_action is TimeoutAction.DELAY
        else pb.ModelQueuePolicy.REJECT
    )
    written.default_queue_policy.default_timeout_microseconds = round((policy.timeout_s or 0) * 1e6)
    written.default_queue_policy.allow_timeout_override = True
    written.default_queue_policy.max_queue_size = policy.max_queue_size or model.max_queue_size


def _parameters(model: ModelInfo) -> dict[str, str]:
    defaults, limits = model.defaults, model.limits
    return {
        "max_batch_rows": str(model.max_batch_size),
        "tasks": ",".join(sorted(task.value for task in model.tasks)),
        "aliases": ",".join(filter(None, (model.hub_id, *model.aliases))),
        "default_size": f"{defaults.width_px}x{defaults.height_px}",
        "default_steps": str(defaults.step_count),
        "default_guidance_scale": f"{defaults.guidance_scale:g}",
        "default_scheduler": defaults.scheduler,
        "schedulers": ",".join(model.schedulers),
        "max_images": str(limits.max_image_count),
    }


def repository_index(
    statuses: tuple[ModelStatus, ...], *, only_ready: bool
) -> pb.RepositoryIndexResponse:
    """A line for each version, and for each model that has none."""
    index = pb.RepositoryIndexResponse.ModelIndex
    lines = []
    for status in statuses:
        name = status.model.name
        lines += [
            index(
                name=name,
                version=str(one.version),
                state=_STATES[one.state],
                reason=one.message or ("unloaded" if one.state is VersionState.UNLOADED else ""),
            )
            for one in sorted(status.versions, key=lambda one: one.version)
        ]
        if not status.versions:
            lines.append(index(name=name, state="UNAVAILABLE", reason="it has no version"))
    return pb.RepositoryIndexResponse(
        models=[one for one in lines if one.state == "READY" or not only_ready]
    )
