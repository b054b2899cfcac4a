"""Writes a denoiser for another runtime into a version's folder, and keeps only what is right."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import io
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom_server.backends.diffusers.exporting.decoder import keep_if_faster
from darkroom_server.backends.diffusers.exporting.graph import write_decoder_onnx, write_onnx
from darkroom_server.backends.diffusers.exporting.parity import lowest_psnr_db
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.network_choice import missing_runtime
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel, DiffusersStepModel
from darkroom_server.backends.exports import (
    UnusableDenoiser,
    decoder_path,
    export_folder,
    graph_path,
    write_record,
)
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import (
    Denoiser,
    DenoiserKind,
    DeviceKind,
    Dtype,
    ExportWeights,
    Placement,
    VersionInfo,
)

#: Least PSNR of the final image against torch in FP32, in dB, for an export to be kept.
LEAST_PSNR_DB = {ExportWeights.FP32: 60.0, ExportWeights.INT8: 30.0}
#: What must be installed to write an export; the runtimes are checked besides.
_TOOLS = {
    (DenoiserKind.ONNXRUNTIME, ExportWeights.FP32): ("onnx", "onnxscript"),
    (DenoiserKind.ONNXRUNTIME, ExportWeights.INT8): ("onnx", "onnxscript"),
    (DenoiserKind.OPENVINO, ExportWeights.FP32): ("onnx", "onnxscript"),
    (DenoiserKind.OPENVINO, ExportWeights.INT8): ("onnx", "onnxscript", "nncf"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export that was kept: where, how large, and how close its images came to torch's.

    `decoder_gain`: how many times as fast as torch's its decoder is; None where it has none.
    """

    folder: Path
    size_bytes: int
    psnr_db: float
    decoder_gain: float | None


def export_denoiser(
    version: VersionInfo,
    kind: DenoiserKind,
    weights: ExportWeights,
    *,
    spec: ImageSpec,
    thread_count: int,
    say: Callable[[str], None] = lambda stage: None,  # noqa: ARG005
) -> Exported:
    """Exports, compares images with torch's, and moves the result into place.

    `spec` is the request that is compared; `say` is called with each stage. Until the last moment
    everything is in a folder with a dot, which is no part of the version. Raises UnusableDenoiser
    with what is missing or wrong, ModelUnavailable, RuntimeError of torch, and OSError; nothing is
    left behind then.
    """
    packages = _tools(kind, weights)
    target = export_folder(version.path, kind, weights)
    work = version.path / f".exporting-{os.getpid()}"
    try:
        graph = graph_path(work / "new", kind)
        graph.parent.mkdir(parents=True)
        say("loading the pipeline")
        model = load_as(version, Denoiser(), thread_count=thread_count)
        with _quietly():
            write_graph(model, spec, kind, weights, graph, say=say)
            say("exporting the decoder")
            write_decoder(model, kind, graph.parent)
        say("measuring the decoder")
        decoder_gain = keep_if_faster(model, spec, graph.parent, kind, thread_count=thread_count)
        say("comparing images")
        psnr_db = lowest_psnr_db(model, spec, graph, kind, thread_count=thread_count)
        if psnr_db < LEAST_PSNR_DB[weights]:
            raise UnusableDenoiser(
                f"The exported denoiser's image has a PSNR of {psnr_db:.1f} dB against torch's; "
                f"{LEAST_PSNR_DB[weights]:.0f} dB are needed. Nothing was kept."
            )
        write_record(graph.parent, digest=version.digest, packages=packages, psnr_db=psnr_db)
        _put_in_place(graph.parent, target, old=work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    size_bytes = sum(path.stat().st_size for path in target.iterdir())
    return Exported(
        folder=target, size_bytes=size_bytes, psnr_db=psnr_db, decoder_gain=decoder_gain
    )


def _put_in_place(made: Path, target: Path, *, old: Path) -> None:
    """Puts the folder where exports are searched for; if that fails, the previous one stays."""
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.rename(old)
    try:
        made.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise


def load_as(version: VersionInfo, denoiser: Denoiser, *, thread_count: int) -> AnyFamilyModel:
    """The version on the processor in FP32 with another denoiser than its configuration's.

    Raises UnusableDenoiser, ModelUnavailable.
    """
    info = dataclasses.replace(version.model, denoiser=denoiser, dtype=Dtype.FP32)
    model = load_model(
        dataclasses.replace(version, model=info),
        Placement(DeviceKind.CPU),
        thread_count=thread_count,
        prompts=PromptCache(max_bytes=64 << 20),
    )
    if not isinstance(model, DiffusersStepModel) or not model.size_axes:
        raise UnusableDenoiser(f"The denoiser of a {info.pipeline_class} cannot be exported.")
    return model


def write_graph(
    model: AnyFamilyModel,
    spec: ImageSpec,
    kind: DenoiserKind,
    weights: ExportWeights,
    graph: Path,
    *,
    say: Callable[[str], None],
) -> None:
    """The graph for a runtime, with weights of a type, of the step that a request begins with.

    Raises RuntimeError where torch cannot export it.
    """
    say("tracing the denoiser")
    one = model.begin(spec, model.encode(spec), 0)
    arguments = model.arguments([one, one])
    inputs = {name: value for name, value in arguments.items() if name != "memories"}
    if kind is DenoiserKind.ONNXRUNTIME and weights is ExportWeights.FP32:
        write_onnx(model, inputs, graph)
        return
    traced = graph.parent.parent / "traced.onnx"
    write_onnx(model, inputs, traced)
    if kind is DenoiserKind.ONNXRUNTIME:
        say("quantizing the weights")
        quantize_onnx(traced, graph)
    else:
        say("converting the graph")
        convert(traced, graph, weights)


def write_decoder(model: AnyFamilyModel, kind: DenoiserKind, folder: Path) -> None:
    """The decoder of the model's VAE for a runtime, beside its denoiser; its weights stay FP32.

    Raises RuntimeError where torch cannot export it.
    """
    decoder = decoder_path(folder, kind)
    if kind is DenoiserKind.ONNXRUNTIME:
        write_decoder_onnx(model.vae, decoder)
        return
    traced = folder.parent / "traced_decoder.onnx"
    write_decoder_onnx(model.vae, traced)
    convert(traced, decoder, ExportWeights.FP32)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the notices, tables and bars that the libraries print on their way."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def quantize_onnx(traced: Path, graph: Path) -> None:
    """The graph with linear layers in 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Convolutions in 8 bits are slower than in 32 there. Without instructions for it, sums of
    # products of 8 bits with 8 overflow: 7 bits are left room.
    quantize_dynamic(
        traced,
        graph,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=not torch.cpu._is_vnni_supported(),
        weight_type=QuantType.QInt8,
        use_external_data_format=True,
        extra_options={"MatMulConstBOnly": True},
    )


def convert(traced: Path, graph: Path, weights: ExportWeights) -> None:
    """The graph as OpenVINO keeps it."""
    import openvino

    converted = openvino.Core().read_model(traced)
    if weights is ExportWeights.INT8:
        import nncf

        converted = nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(converted, graph, compress_to_fp16=False)


def _tools(kind: DenoiserKind, weights: ExportWeights) -> dict[str, str]:
    """Versions of what makes the export; raises UnusableDenoiser for what is missing."""
    reason = missing_runtime(kind)
    if reason is not None:
        raise UnusableDenoiser(reason)
    extra = "onnx" if kind is DenoiserKind.ONNXRUNTIME else "openvino-denoiser"
    versions = {"torch": importlib.metadata.version("torch")}
    for package in _TOOLS[kind, weights]:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise UnusableDenoiser(
                f"{package} is not installed: pip install 'darkroom-server[{extra}]'."
            ) from None
    return versions
