"""Version 2 of the embedded models: what each is made of, how it is measured, what it must reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from darkroom_training.checkpoint import load_trained
from darkroom_training.icons import flux, flux_fill, sdxl
from darkroom_training.icons.measurement import MOST_OUTSIDE
from darkroom_training.measurement import DrawSettings, Figures, share

#: What of the prompts, and of the fills, must be right before weights are exported.
LEAST_RIGHT = 0.95
#: What of true drawings the judge must find right, or its word on others counts for nothing.
LEAST_TRUE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """An embedded model; `assemble(folder, weights)` gives the stock pipeline of trained weights."""

    name: str
    checkpoint: str
    settings: DrawSettings
    fills: bool
    assemble: Callable[[Path, dict[str, torch.Tensor]], Any]

    def faults(self, report: Figures) -> list[str]:
        """Why a model with these figures is not good enough; empty when it is."""
        found = []
        if share(report["true scenes"]["all"]) < LEAST_TRUE:
            found.append(f"the judge is right on {share(report['true scenes']['all']):.1%} only")
        counts = report["fill"] if self.fills else report["generate"]["overall"]
        if share(counts["all"]) < LEAST_RIGHT:
            found.append(f"right in {share(counts['all']):.1%}, less than {LEAST_RIGHT:.0%}")
        if self.fills and counts["outside difference before pasting"] > MOST_OUTSIDE:
            change = counts["outside difference before pasting"]
            found.append(f"{change} levels of change outside the mask, more than {MOST_OUTSIDE}")
        return found


def _sdxl(folder: Path, weights: dict[str, torch.Tensor]) -> Any:
    model, words = sdxl.start(folder)
    load_trained(model, weights)
    return sdxl.pipeline(folder, model.eval(), words)


def _flux(folder: Path, weights: dict[str, torch.Tensor]) -> Any:
    model, words, t5_words = flux.start(folder)
    load_trained(model, weights)
    return flux.pipeline(folder, model.eval(), words, t5_words)


def _flux_fill(folder: Path, weights: dict[str, torch.Tensor]) -> Any:
    model, words, t5_words = flux_fill.start(folder)
    load_trained(model, weights)
    return flux_fill.pipeline(folder, model.eval(), words, t5_words)


PRODUCTS = {
    product.name: product
    for product in (
        Product(
            name="tiny-sdxl",
            checkpoint="sdxl.pt",
            settings=sdxl.SETTINGS,
            fills=False,
            assemble=_sdxl,
        ),
        Product(
            name="tiny-flux-schnell",
            checkpoint="flux.pt",
            settings=flux.SETTINGS,
            fills=False,
            assemble=_flux,
        ),
        Product(
            name="tiny-flux-fill",
            checkpoint="flux-fill.pt",
            settings=flux_fill.SETTINGS,
            fills=True,
            assemble=_flux_fill,
        ),
    )
}
