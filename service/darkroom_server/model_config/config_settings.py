"""The message of a `config.pbtxt` as settings, with what the file does not set left open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar

from darkroom.v1 import image_pb2, model_config_pb2, model_service_pb2
from darkroom_server.domain.dynamic_batching import DynamicBatching, QueuePolicy, TimeoutAction
from darkroom_server.domain.jobs import Reproducibility, Task
from darkroom_server.domain.models import (
    BackendKind,
    Denoiser,
    DenoiserKind,
    DeviceKind,
    Dtype,
    ExportWeights,
    UpdatePolicy,
)
from darkroom_server.model_config.config_fake import fake_pace
from darkroom_server.model_config.config_memory import adapter_memory, memory_profile
from darkroom_server.model_config.config_prompts import prompt_upsampling_of
from darkroom_server.model_config.config_source import ConfigSource
from darkroom_server.model_config.config_training import trained_sizes_of, vocabulary_of
from darkroom_server.model_config.settings import (
    AllVersions,
    DefaultSettings,
    InstanceGroupSettings,
    LatestVersions,
    LimitSettings,
    ModelSettings,
    SpecificVersions,
    VersionPolicy,
    WarmupSettings,
)

_TASKS = {
    model_service_pb2.Model.TASK_TEXT_TO_IMAGE: Task.TEXT_TO_IMAGE,
    model_service_pb2.Model.TASK_FILL: Task.FILL,
    model_service_pb2.Model.TASK_IMAGE_TO_IMAGE: Task.IMAGE_TO_IMAGE,
    model_service_pb2.Model.TASK_EDIT: Task.EDIT,
}
_DTYPES = {
    model_config_pb2.DTYPE_UNSPECIFIED: Dtype.AUTO,
    model_config_pb2.DTYPE_FP32: Dtype.FP32,
    model_config_pb2.DTYPE_FP16: Dtype.FP16,
    model_config_pb2.DTYPE_BF16: Dtype.BF16,
}
_REPRODUCIBILITIES = {
    image_pb2.REPRODUCIBILITY_UNSPECIFIED: Reproducibility.EXACT,
    image_pb2.REPRODUCIBILITY_TOLERANCE: Reproducibility.TOLERANCE,
    image_pb2.REPRODUCIBILITY_EXACT: Reproducibility.EXACT,
}
_UPDATE_POLICIES = {
    model_config_pb2.UPDATE_POLICY_UNSPECIFIED: UpdatePolicy.AVAILABILITY,
    model_config_pb2.UPDATE_POLICY_AVAILABILITY: UpdatePolicy.AVAILABILITY,
    model_config_pb2.UPDATE_POLICY_RESOURCE: UpdatePolicy.RESOURCE,
    model_config_pb2.UPDATE_POLICY_AUTO: UpdatePolicy.AUTO,
}
_DENOISERS = {
    model_config_pb2.DENOISER_UNSPECIFIED: DenoiserKind.TORCH,
    model_config_pb2.DENOISER_TORCH: DenoiserKind.TORCH,
    model_config_pb2.DENOISER_TORCH_COMPILE: DenoiserKind.TORCH_COMPILE,
    model_config_pb2.DENOISER_ONNXRUNTIME: DenoiserKind.ONNXRUNTIME,
    model_config_pb2.DENOISER_OPENVINO: DenoiserKind.OPENVINO,
}
_EXPORT_WEIGHTS = {
    model_config_pb2.EXPORT_WEIGHTS_UNSPECIFIED: ExportWeights.FP32,
    model_config_pb2.EXPORT_WEIGHTS_FP32: ExportWeights.FP32,
    model_config_pb2.EXPORT_WEIGHTS_INT8: ExportWeights.INT8,
}
_BACKENDS = {
    model_config_pb2.BACKEND_UNSPECIFIED: BackendKind.DIFFUSERS,
    model_config_pb2.BACKEND_DIFFUSERS: BackendKind.DIFFUSERS,
    model_config_pb2.BACKEND_FAKE: BackendKind.FAKE,
}
_DEVICES = {
    model_config_pb2.InstanceGroup.KIND_UNSPECIFIED: DeviceKind.AUTO,
    model_config_pb2.InstanceGroup.KIND_AUTO: DeviceKind.AUTO,
    model_config_pb2.InstanceGroup.KIND_GPU: DeviceKind.GPU,
    model_config_pb2.InstanceGroup.KIND_CPU: DeviceKind.CPU,
}
_TIMEOUT_ACTIONS = {
    model_config_pb2.QueuePolicy.REJECT: TimeoutAction.REJECT,
    model_config_pb2.QueuePolicy.DELAY: TimeoutAction.DELAY,
}

_Value = TypeVar("_Value", str, bool, int, float)


def settings_of(message: model_config_pb2.ModelConfig, source: ConfigSource) -> ModelSettings:
    """What the message sets; None or empty for what the file does not write."""

    def written(value: _Value, *path: str) -> _Value | None:
        return value if source.find(*path) is not None else None

    defaults = message.defaults
    return ModelSettings(
        name=message.name,
        display_name=message.display_name,
        max_batch_size=written(message.max_batch_size, "max_batch_size"),
        version_policy=_version_policy(message.version_policy, source),
        instance_groups=tuple(
            InstanceGroupSettings(
                count=group.count or None, device=_DEVICES[group.kind], gpus=tuple(group.gpus)
            )
            for group in message.instance_group
        ),
        max_queue_size=written(message.max_queue_size, "max_queue_size"),
        aliases=tuple(message.aliases),
        hub_id=message.hub.repo_id,
        tasks=tuple(_TASKS[task] for task in message.tasks if task in _TASKS),
        defaults=DefaultSettings(
            **{
                field.name: written(getattr(defaults, field.name), "defaults", field.name)
                for field in fields(DefaultSettings)
            }
        ),
        limits=_limits(message.limits, source),
        schedulers=tuple(message.schedulers),
        parameters=tuple(message.parameters),
        dtype=_DTYPES[message.dtype],
        reproducibility=_REPRODUCIBILITIES[message.reproducibility],
        version_labels=tuple(sorted(message.version_labels.items())),
        traffic_percent=tuple(sorted(message.traffic_percent.items())),
        warmups=_warmups(message.model_warmup),
        dynamic_batching=_dynamic_batching(message.dynamic_batching),
        memory=memory_profile(message),
        adapter_memory=adapter_memory(message),
        license=message.license,
        update_policy=_UPDATE_POLICIES[message.update_policy],
        denoiser=_denoiser(message),
        vocabulary=vocabulary_of(message),
        trained_sizes=trained_sizes_of(message),
        prompt_upsampling=prompt_upsampling_of(message),
        backend=_BACKENDS[message.backend],
        fake=fake_pace(message.fake),
    )


def _dynamic_batching(batching: model_config_pb2.DynamicBatching) -> DynamicBatching:
    waiting = DynamicBatching(
        preferred_batch_sizes=tuple(batching.preferred_batch_size),
        max_queue_delay_s=batching.max_queue_delay_microseconds / 1e6,
        default_queue_policy=_queue_policy(batching.default_queue_policy),
        queue_policies=tuple(
            (level, _queue_policy(policy))
            for level, policy in sorted(batching.priority_queue_policy.items())
        ),
    )
    if not batching.priority_levels:
        return waiting
    return replace(
        waiting,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
    )


def _queue_policy(policy: model_config_pb2.QueuePolicy) -> QueuePolicy:
    return QueuePolicy(
        timeout_action=_TIMEOUT_ACTIONS[policy.timeout_action],
        timeout_s=policy.default_timeout_microseconds / 1e6 or None,
        max_queue_size=policy.max_queue_size or None,
    )


def _limits(limits: model_config_pb2.ModelConfig.Limits, source: ConfigSource) -> LimitSettings:
    def written(value: int, key: str) -> int | None:
        return value if source.find("limits", key) is not None else None

    return LimitSettings(
        **{
            field.name: written(getattr(limits, field.name), field.name)
            for field in fields(LimitSettings)
        }
    )


def _warmups(messages: Iterable[model_config_pb2.ModelWarmup]) -> tuple[WarmupSettings, ...]:
    return tuple(
        WarmupSettings(
            width_px=one.width_px or None,
            height_px=one.height_px or None,
            batch_size=one.batch_size or 1,
            count=one.count or 1,
        )
        for one in messages
    )


def _version_policy(policy: model_config_pb2.VersionPolicy, source: ConfigSource) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return AllVersions()
        case "specific":
            return SpecificVersions(tuple(policy.specific.versions))
        case "latest" if source.find("version_policy", "latest", "num_versions") is not None:
            return LatestVersions(policy.latest.num_versions)
        case "latest" | None:
            return LatestVersions()


def _denoiser(message: model_config_pb2.ModelConfig) -> Denoiser:
    options = message.denoiser_options
    compute = _DTYPES[options.compute]
    return Denoiser(
        kind=_DENOISERS[message.denoiser],
        weights=_EXPORT_WEIGHTS[options.weights],
        compute=Dtype.FP32 if compute is Dtype.AUTO else compute,
        compiled_sizes=tuple((size.width_px, size.height_px) for size in options.compiled_size),
        attention_backend=options.attention_backend,
        cuda_graphs=options.cuda_graphs,
    )
