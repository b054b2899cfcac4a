"""Pipelines that optimum saved for OpenVINO, run whole requests at a time."""

from __future__ import annotations

import importlib.util
from typing import Any

import structlog

from darkroom_server.backends.diffusers.whole_request import WholeRequestModel, reason_against
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.memory import MemoryProfile
from darkroom_server.domain.models import DeviceKind, Dtype, Placement, VersionInfo
from darkroom_server.domain.own_words import own_words

log = structlog.get_logger(__name__)

#: What OpenVINO computes in, whatever type the arrays were saved in.
_PRECISIONS = {
    Dtype.AUTO: "f32",
    Dtype.FP32: "f32",
    Dtype.FP16: "f16",
    Dtype.BF16: "bf16",
}


class OpenVinoModel(WholeRequestModel):
    """One of optimum's pipelines as a `RequestModel`."""

    def __init__(self, pipeline: Any, version: VersionInfo) -> None:
        super().__init__(pipeline, allowed_schedulers=version.model.schedulers)
        self._version = version

    def memory_bytes(self) -> int:
        """Bytes of the arrays, which OpenVINO holds about once."""
        return self._version.weight_bytes

    def peak_memory_bytes(self) -> int:
        """0: OpenVINO does not report it."""
        return 0

    def dtype(self) -> Dtype:
        """What it computes in."""
        dtype = self._version.model.dtype
        return Dtype.FP32 if dtype is Dtype.AUTO else dtype


def load_openvino(
    version: VersionInfo, placement: Placement, *, thread_count: int
) -> OpenVinoModel:
    """Reads and compiles the graphs; raises ModelUnavailable with the reason."""
    model = version.model
    kind = _pipeline_class(model.name, model.pipeline_class)
    if placement.device is DeviceKind.GPU:
        raise ModelUnavailable(model.name, "OpenVINO runs on the processor; drop KIND_GPU.")
    if model.memory != MemoryProfile():
        raise ModelUnavailable(
            model.name,
            "Memory profiles are for torch: have optimum save the weights in 8 bits instead.",
        )
    _read_whole()
    try:
        pipeline = kind.from_pretrained(
            version.path,
            export=False,
            local_files_only=True,
            trust_remote_code=False,
            ov_config={
                "INFERENCE_PRECISION_HINT": _PRECISIONS[model.dtype],
                "INFERENCE_NUM_THREADS": str(thread_count),
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
    except (OSError, ValueError, RuntimeError) as error:
        log.exception("pipeline does not load", model=model.name)
        raise ModelUnavailable(
            model.name,
            f"OpenVINO does not load the pipeline: {own_words(error)}",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return OpenVinoModel(pipeline, version)


def _read_whole() -> None:
    """Has arrays read and not mapped: a file that is rewritten in place would change the model."""
    from optimum.intel.openvino import modeling_base

    modeling_base.core.set_property({"ENABLE_MMAP": False})


def _pipeline_class(name: str, class_name: str) -> Any:
    if importlib.util.find_spec("optimum.intel") is None:
        raise ModelUnavailable(
            name,
            "The pipeline was saved for OpenVINO, and optimum-intel is not installed: "
            "pip install 'darkroom-server[openvino]'.",
        )
    # Optional, and slow to import.
    from optimum.intel import openvino

    kind = getattr(openvino, class_name, None)
    reason = "is none of optimum's pipelines" if kind is None else reason_against(class_name, kind)
    if reason is not None:
        raise ModelUnavailable(name, f"{class_name} {reason}.")
    return kind
