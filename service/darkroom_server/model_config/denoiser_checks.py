"""Whether a config's denoiser fits its options, the pipeline, and what has been exported."""

from __future__ import annotations

from darkroom_server.backends.exports import UnusableDenoiser, usable_graph
from darkroom_server.domain.models import DenoiserKind, Dtype, ModelInfo, VersionInfo
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_file import ConfigFile
from darkroom_server.pipelines.traits import PipelineTraits

#: The options that each kind uses.
_OPTIONS: dict[DenoiserKind, frozenset[str]] = {
    DenoiserKind.TORCH: frozenset({"attention_backend"}),
    DenoiserKind.TORCH_COMPILE: frozenset({"attention_backend", "compiled_size", "cuda_graphs"}),
    DenoiserKind.ONNXRUNTIME: frozenset({"weights"}),
    DenoiserKind.OPENVINO: frozenset({"weights", "compute"}),
}
#: Pipelines whose attention diffusers lets one choose.
_CHOOSES_ATTENTION = ("FluxPipeline", "FluxFillPipeline")


def check_denoiser_alone(config: ConfigFile, problems: ProblemLog) -> None:
    """Whether the options are ones that the kind of denoiser uses."""
    denoiser = config.settings.denoiser
    for option in sorted(frozenset().union(*_OPTIONS.values()) - _OPTIONS[denoiser.kind]):
        if config.source.find("denoiser_options", option) is not None:
            config.error(
                problems,
                f"{option} does nothing with {_name(denoiser.kind)} (used there: "
                f"{', '.join(sorted(_OPTIONS[denoiser.kind]))})",
                *("denoiser_options", option),
            )
    if denoiser.compute is Dtype.FP16:
        config.error(
            problems,
            "compute must be DTYPE_FP32 or DTYPE_BF16: processors do not compute in FP16",
            *("denoiser_options", "compute"),
        )
    memory = config.settings.memory
    for field, value in (
        ("quantization", memory.quantization),
        ("storage_dtype", memory.storage),
        ("offload", memory.offload),
    ):
        if value is not None and denoiser.kind is not DenoiserKind.TORCH:
            config.error(
                problems, f"{field} needs DENOISER_TORCH, not {_name(denoiser.kind)}", field
            )
    if denoiser.kind.is_exported and config.settings.dtype not in (Dtype.AUTO, Dtype.FP32):
        config.error(
            problems,
            f"dtype must be DTYPE_FP32 or left out with {_name(denoiser.kind)}: exported denoisers "
            "take and give FP32; denoiser_options { compute: DTYPE_BF16 } computes in BF16 "
            "with DENOISER_OPENVINO",
            "dtype",
        )


def check_denoiser_of(config: ConfigFile, traits: PipelineTraits, problems: ProblemLog) -> None:
    """Whether the pipeline's steps can be computed as the config says."""
    denoiser, name = config.settings.denoiser, traits.pipeline_class
    if denoiser.kind not in traits.denoisers:
        allowed = ", ".join(_name(kind) for kind in DenoiserKind if kind in traits.denoisers)
        reason = (
            "its requests run whole, with the pipeline's own code"
            if traits.runs_whole
            else "torch cannot compile its blocks one by one, and it cannot be exported"
        )
        config.error(
            problems,
            f"a {name} cannot run with {_name(denoiser.kind)}: {reason} (allowed: {allowed})",
            "denoiser",
        )
    if denoiser.attention_backend and name not in _CHOOSES_ATTENTION:
        config.error(
            problems,
            f"attention_backend is for these: {', '.join(_CHOOSES_ATTENTION)}",
            *("denoiser_options", "attention_backend"),
        )


def check_compiled_sizes(config: ConfigFile, info: ModelInfo, problems: ProblemLog) -> None:
    """Whether requests could ask for the sizes that are to be compiled."""
    limits, path = info.limits, ("denoiser_options", "compiled_size")
    for i, size in enumerate(info.denoiser.compiled_sizes):
        within = all(limits.min_size_px <= edge <= limits.max_size_px for edge in size)
        if not within or any(edge % limits.size_multiple_px for edge in size):
            config.error(
                problems,
                f"{size[0]}x{size[1]} is no size of this model: edges are "
                f"{limits.min_size_px} to {limits.max_size_px}, multiples of "
                f"{limits.size_multiple_px}",
                *path,
                index=i,
            )


def check_export(version: VersionInfo, shown: str, problems: ProblemLog) -> None:
    """Warns where a version is to be run by an export that cannot be used."""
    if not version.model.denoiser.kind.is_exported:
        return
    try:
        usable_graph(version, version.model.denoiser)
    except UnusableDenoiser as error:
        problems.warning(shown, f"cannot be loaded: {error}")


def _name(kind: DenoiserKind) -> str:
    return f"DENOISER_{kind.name}"
