"""How a model's weights and values lie in memory."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Quantization(enum.Enum):
    """How weights are quantized; the value names it in fingerprints."""

    INT8_WEIGHTS = "int8-weights"
    INT8 = "int8"
    FP8_WEIGHTS = "fp8-weights"
    FP8 = "fp8"
    BNB_INT8 = "bnb-int8"
    BNB_NF4 = "bnb-nf4"


class StorageDtype(enum.Enum):
    """Type of the denoiser's weights between uses; the value names it in fingerprints."""

    FP8_E4M3 = "stored-fp8-e4m3"
    FP8_E5M2 = "stored-fp8-e5m2"


class Offload(enum.Enum):
    """What stays in the processor's memory until it is needed on the GPU."""

    MODEL = "model"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProfile:
    """What a model saves of memory. None and empty: nothing.

    `quantized_parts` of the pipeline, or the denoiser; images with an edge above `vae_tiling_px` go
    through the VAE in tiles of that size.
    """

    quantization: Quantization | None = None
    quantized_parts: tuple[str, ...] = ()
    storage: StorageDtype | None = None
    offload: Offload | None = None
    vae_tiling_px: int | None = None
    channels_last: bool = False

    def names(self) -> tuple[str, ...]:
        """The settings that change pixels, for fingerprints."""
        names = []
        if self.quantization is not None:
            names.append("-".join((self.quantization.value, *self.quantized_parts)))
        if self.storage is not None:
            names.append(self.storage.value)
        if self.vae_tiling_px is not None:
            names.append(f"tiles-{self.vae_tiling_px}")
        if self.channels_last:
            names.append("channels-last")
        return tuple(names)
