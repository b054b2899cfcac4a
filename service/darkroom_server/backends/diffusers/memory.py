"""Memory profiles: what a pipeline's weights lie in memory as, and where.

`check` says before any weights are read what cannot be done here; `quantization_config` is for
`from_pretrained`; `place` does the rest with a loaded pipeline.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DiffusionPipeline, PipelineQuantizationConfig

from darkroom_server.backends.diffusers.device import device_of
from darkroom_server.devices.kind import Ability
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization, StorageDtype

_STORAGES = {
    StorageDtype.FP8_E4M3: torch.float8_e4m3fn,
    StorageDtype.FP8_E5M2: torch.float8_e5m2,
}
_BITSANDBYTES = (Quantization.BNB_INT8, Quantization.BNB_NF4)


def check(name: str, profile: MemoryProfile, device: torch.device, parts: Collection[str]) -> None:
    """Raises ModelUnavailable for what cannot be done on a device with a pipeline's parts."""
    reason = _reason_against(profile, device, parts)
    if reason is not None:
        raise ModelUnavailable(name, reason)


def _reason_against(
    profile: MemoryProfile, device: torch.device, parts: Collection[str]
) -> str | None:
    place = device_of(device)
    needs_denoiser = profile.storage is not None or profile.channels_last
    if profile.quantization is not None:
        needs_denoiser = needs_denoiser or not profile.quantized_parts
    if needs_denoiser and denoiser_name(parts) is None:
        return "The pipeline has no part that is known to denoise: neither unet nor transformer."
    if profile.offload is not None and not place.has(Ability.OFFLOAD):
        return "offload needs a GPU: on the processor all weights are where they would go."
    if (method := profile.quantization) is None:
        return None
    unknown = [part for part in profile.quantized_parts if part not in parts]
    if unknown:
        return f"The pipeline has no part {unknown[0]} to quantize; it has {', '.join(parts)}."
    if method in _BITSANDBYTES and not place.has(Ability.BITSANDBYTES):
        return f"Quantization {method.value} needs a GPU."
    if method is Quantization.FP8 and not place.multiplies_fp8():
        return "Quantization fp8 needs a GPU that multiplies 8-bit floating point."
    package = "bitsandbytes" if method in _BITSANDBYTES else "torchao"
    if importlib.util.find_spec(package) is None:
        return (
            f"Quantization {method.value} needs {package}, which is not installed: "
            f"pip install 'darkroom-server[{_extra(package)}]'."
        )
    return None


def _extra(package: str) -> str:
    return "quantization" if package == "torchao" else package


def denoiser_name(parts: Collection[str]) -> str | None:
    """The name of the part that denoises; None where it has another name."""
    return next((name for name in ("transformer", "unet") if name in parts), None)


def quantization_config(
    profile: MemoryProfile, components: Mapping[str, Sequence[str | None]], dtype: torch.dtype
) -> PipelineQuantizationConfig | None:
    """What `from_pretrained` quantizes as it reads; `components` are [library, class] by part."""
    if profile.quantization is None:
        return None
    denoiser = denoiser_name(components)
    wanted = profile.quantized_parts or (() if denoiser is None else (denoiser,))
    return PipelineQuantizationConfig(
        quant_mapping={
            # Both libraries have classes of these names, each for its own parts.
            part: _part_config(
                profile.quantization,
                transformers if components[part][0] == "transformers" else diffusers,
                dtype,
            )
            for part in wanted
        }
    )


def _part_config(method: Quantization, library: Any, dtype: torch.dtype) -> Any:
    match method:
        case Quantization.BNB_INT8:
            return library.BitsAndBytesConfig(load_in_8bit=True)
        case Quantization.BNB_NF4:
            return library.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
            )
        case (
            Quantization.INT8_WEIGHTS
            | Quantization.INT8
            | Quantization.FP8_WEIGHTS
            | Quantization.FP8
        ):
            return library.TorchAoConfig(_torchao_config(method))


def _torchao_config(method: Quantization) -> Any:
    # Optional, and slow to import.
    from torchao import quantization

    kinds = {
        Quantization.INT8_WEIGHTS: quantization.Int8WeightOnlyConfig,
        Quantization.INT8: quantization.Int8DynamicActivationInt8WeightConfig,
        Quantization.FP8_WEIGHTS: quantization.Float8WeightOnlyConfig,
        Quantization.FP8: quantization.Float8DynamicActivationFloat8WeightConfig,
    }
    return kinds[method]()


def place(
    name: str, pipeline: DiffusionPipeline, profile: MemoryProfile, device: torch.device
) -> DiffusionPipeline:
    """Puts a loaded pipeline that passed `check` where it computes.

    Raises ModelUnavailable where a part cannot.
    """
    denoiser = pipeline.components.get(denoiser_name(pipeline.components))
    if profile.storage is not None:
        denoiser.enable_layerwise_casting(
            storage_dtype=_STORAGES[profile.storage], compute_dtype=denoiser.dtype
        )
    if profile.channels_last:
        for part in (denoiser, pipeline.vae):
            part.to(memory_format=torch.channels_last)
    if profile.vae_tiling_px is not None:
        _tile(name, pipeline.vae, profile.vae_tiling_px)
    match profile.offload:
        case None:
            pipeline.to(device)
        case Offload.MODEL:
            pipeline.enable_model_cpu_offload(device=device)
        case Offload.GROUP:
            pipeline.enable_group_offload(onload_device=device, offload_type="leaf_level")
    return pipeline


def _tile(name: str, vae: Any, tile_px: int) -> None:
    """Larger images are encoded and decoded in tiles of the size."""
    if not isinstance(vae, AutoencoderKL):
        kind = type(vae).__name__
        raise ModelUnavailable(
            name, f"The VAE, an {kind}, does not run in tiles: leave vae_tiling_above_px out."
        )
    vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_latent_min_size = tile_px // factor
    vae.tile_sample_min_size = tile_px
