"""Gives a loaded model the network that its configuration asks for."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _check_attention_backend_requirements,
)

from darkroom_server.backends.diffusers.device import device_of
from darkroom_server.backends.diffusers.networks.compile_cache import use_compile_cache
from darkroom_server.backends.diffusers.networks.exported import (
    ExportedDecoder,
    ExportedNetwork,
    Graph,
)
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel
from darkroom_server.backends.exports import UnusableDenoiser, decoder_path, usable_graph
from darkroom_server.devices.kind import Ability
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import Denoiser, DenoiserKind, Dtype, VersionInfo

#: The package that each runtime comes in, and the extra of this distribution that installs it.
RUNTIMES = {
    DenoiserKind.ONNXRUNTIME: ("onnxruntime", "onnx"),
    DenoiserKind.OPENVINO: ("openvino", "openvino-denoiser"),
}


def choose_network(
    model: AnyFamilyModel, version: VersionInfo, *, device: torch.device, thread_count: int
) -> None:
    """Sets the network; raises ModelUnavailable with what would help."""
    denoiser = version.model.denoiser
    try:
        if denoiser.attention_backend:
            _set_attention_backend(model.module, denoiser.attention_backend)
        match denoiser.kind:
            case DenoiserKind.TORCH:
                return
            case DenoiserKind.TORCH_COMPILE:
                _compile(model, version, device)
            case DenoiserKind.ONNXRUNTIME | DenoiserKind.OPENVINO:
                _run_export(model, version, device, thread_count)
    except UnusableDenoiser as error:
        raise ModelUnavailable(version.model.name, str(error)) from error


def missing_runtime(kind: DenoiserKind) -> str | None:
    """Why a runtime cannot be used here, and what helps; None if it can."""
    package, extra = RUNTIMES[kind]
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: pip install 'darkroom-server[{extra}]'."


def _compile(model: AnyFamilyModel, version: VersionInfo, device: torch.device) -> None:
    # Imported here: it brings the compiler's modules with it, a second's worth.
    from darkroom_server.backends.diffusers.networks.compiled import (
        CompiledNetwork,
        reason_against,
    )

    denoiser = version.model.denoiser
    reason = reason_against(device)
    if reason is None and denoiser.cuda_graphs and not device_of(device).has(Ability.CUDA_GRAPHS):
        reason = "cuda_graphs need a GPU, and the model runs on the processor"
    if reason is not None:
        raise UnusableDenoiser(f"DENOISER_TORCH_COMPILE cannot be used: {reason}.")
    use_compile_cache(
        version.path,
        {
            "digest": version.digest,
            "dtype": model.dtype().value,
            "denoiser": denoiser.label,
            "cuda_graphs": str(denoiser.cuda_graphs),
        },
    )
    model.network = CompiledNetwork(
        model.module,
        model.constants,
        regional=not isinstance(model.size_axes.get("sample"), tuple),
        cuda_graphs=denoiser.cuda_graphs,
    )


def _run_export(
    model: AnyFamilyModel, version: VersionInfo, device: torch.device, thread_count: int
) -> None:
    denoiser: Denoiser = version.model.denoiser
    if device.type != "cpu":
        raise UnusableDenoiser(
            f"{denoiser.label} runs on the processor only: set instance_group {{ kind: KIND_CPU }}."
        )
    reason = missing_runtime(denoiser.kind)
    if reason is not None:
        raise UnusableDenoiser(reason)
    graph = usable_graph(version, denoiser)
    # The runtime has weights of its own: torch's leave before they come.
    model.module.to("meta")
    use_export(model, graph, denoiser.kind, thread_count=thread_count, compute=denoiser.compute)
    if isinstance(model.decoder, ExportedDecoder):
        model.vae.decoder.to("meta")


def use_export(
    model: AnyFamilyModel,
    graph: Path,
    kind: DenoiserKind,
    *,
    thread_count: int,
    compute: Dtype,
) -> None:
    """Has an exported denoiser run, and the decoder that lies beside it, unless it is to tile."""
    opened = partial(open_graph, kind=kind, thread_count=thread_count, compute=compute)
    memory_bytes = sum(path.stat().st_size for path in graph.parent.iterdir())
    model.network = ExportedNetwork(opened(graph), memory_bytes=memory_bytes)
    decoder = decoder_path(graph.parent, kind)
    if decoder.exists() and not getattr(model.vae, "use_tiling", False):
        model.decoder = ExportedDecoder(opened(decoder))


def open_graph(path: Path, kind: DenoiserKind, *, thread_count: int, compute: Dtype) -> Graph:
    """An exported graph in its runtime, which is imported here: the others need it not."""
    if kind is DenoiserKind.ONNXRUNTIME:
        from darkroom_server.backends.diffusers.networks.onnx import OnnxGraph

        return OnnxGraph(path, thread_count=thread_count)
    from darkroom_server.backends.diffusers.networks.openvino import OpenvinoGraph

    return OpenvinoGraph(path, thread_count=thread_count, compute=compute)


def _set_attention_backend(module: torch.nn.Module, name: str) -> None:
    """For this model alone: the library's own method changes it for all of the process."""
    try:
        backend = AttentionBackendName(name.lower())
        _check_attention_backend_requirements(backend)
    except (ValueError, RuntimeError) as error:
        known = ", ".join(sorted(one.value for one in AttentionBackendName))
        raise UnusableDenoiser(
            f"attention_backend {name!r} cannot be used: {error} Known: {known}."
        ) from error
    for part in module.modules():
        processor = getattr(part, "processor", None)
        if processor is not None and hasattr(processor, "_attention_backend"):
            processor._attention_backend = backend
