"""The models that are exported: what each is made of, how it is measured, what it must reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darkroom_training import flux, flux_fill, sdxl, t5_tokenizer, tokenizer
from darkroom_training.measurement import LEAST, SDXL_SETTINGS, DrawSettings, Figures, gate_faults

#: Mean change outside the mask, in levels of 255, that the autoencoder alone may cause.
MOST_OUTSIDE = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """An embedded model.

    `assemble(folder, base, weights)` gives the stock pipeline of trained weights. `least` and
    `least_filled` are the shares that must be right of what is drawn and of what is filled; where
    there is none, the model is not asked for it.
    """

    name: str
    checkpoint: str
    settings: DrawSettings
    least: Mapping[str, float] | None
    least_filled: Mapping[str, float] | None
    assemble: Callable[[Path, Path, dict[str, torch.Tensor]], Any]

    def faults(self, report: Figures) -> list[str]:
        """Why a model with these figures is not good enough; empty when it is."""
        found = [] if self.least is None else gate_faults(report["generate"]["overall"], self.least)
        if self.least_filled:
            found += gate_faults(report["fill"], self.least_filled)
            change = report["fill"]["outside difference before pasting"]
            if change > MOST_OUTSIDE:
                found.append(
                    f"{change} levels of change outside the mask, more than {MOST_OUTSIDE}"
                )
        return found


def _sdxl(folder: Path, base: Path, weights: dict[str, torch.Tensor]) -> Any:
    del base
    words = tokenizer.load_or_build(folder / "tokenizer-0")
    model = sdxl.Denoiser(words)
    model.load_state_dict(weights)
    return sdxl.pipeline(folder, model.eval(), words)


def _flux(folder: Path, base: Path, weights: dict[str, torch.Tensor]) -> Any:
    del folder
    model = flux.FluxModel(base, t5_tokenizer.build())
    model.load_state_dict(weights)
    return flux.pipeline(base, model.eval())


def _flux_fill(folder: Path, base: Path, weights: dict[str, torch.Tensor]) -> Any:
    del folder
    model = flux_fill.build(base, t5_tokenizer.build())
    model.load_state_dict(weights)
    return flux_fill.pipeline(base, model.eval())


PRODUCTS = {
    product.name: product
    for product in (
        Product(
            name="tiny-sdxl",
            checkpoint="sdxl.pt",
            settings=SDXL_SETTINGS,
            least=LEAST,
            least_filled={},
            assemble=_sdxl,
        ),
        Product(
            name="tiny-flux-schnell",
            checkpoint="flux.pt",
            settings=flux.SETTINGS,
            least={"background": 0.85, "object at place": 0.85, "shape": 0.85},
            least_filled=None,
            assemble=_flux,
        ),
        Product(
            name="tiny-flux-fill",
            checkpoint="flux-fill.pt",
            settings=flux_fill.SETTINGS,
            least=None,
            least_filled={"object at place": 0.90, "shape": 0.90},
            assemble=_flux_fill,
        ),
    )
}
