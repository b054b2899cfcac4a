"""Why a model does not take a parameter, as far as its configuration shows."""

from __future__ import annotations

from darkroom_server.domain.memory import MemoryProfile
from darkroom_server.domain.models import DenoiserKind, ModelInfo

#: What is computed inside single layers, or between them.
_OF_LAYERS = frozenset({"adapters", "feature_cache"})


def kept_from(field: str, denoiser: DenoiserKind, memory: MemoryProfile) -> str:
    """What of a model's settings keeps it from a parameter of its family; empty: nothing."""
    if field not in _OF_LAYERS:
        return ""
    if denoiser is DenoiserKind.TORCH_COMPILE:
        return "its denoiser is compiled (denoiser), and layers of it cannot be run apart"
    if denoiser.is_exported:
        return f"its denoiser is exported for {denoiser.value} (denoiser), which is one graph"
    if memory.offload is not None:
        return "its weights are taken to the GPU and back (offload)"
    if field != "adapters":
        return ""
    if memory.quantization is not None:
        return f"its weights are quantized (quantization: {memory.quantization.value})"
    if memory.storage is not None:
        return f"its weights are stored in 8 bits (storage_dtype: {memory.storage.value})"
    return ""


def refusal(field: str, model: ModelInfo) -> str:
    """That a model does not take a parameter, and why."""
    text = f"models/{model.name} does not take {field}"
    reason = kept_from(field, model.denoiser.kind, model.memory)
    if not reason and field in _OF_LAYERS and model.runs_whole:
        reason = f"requests to {model.pipeline_class} run whole, not step by step"
    return f"{text}: {reason}" if reason else text
