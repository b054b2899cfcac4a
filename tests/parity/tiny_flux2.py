"""A small FLUX.2 klein pipeline with random weights, built without any download."""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch

from tests.parity.pipeline_kits import build


def random_klein(folder: Path, *, is_distilled: bool = False) -> diffusers.Flux2KleinPipeline:
    """The VAE has factor 8 and a norm that does something."""
    made: diffusers.Flux2KleinPipeline = build(diffusers.Flux2KleinPipeline, folder)
    made.register_to_config(is_distilled=is_distilled)
    norm = made.vae.bn
    norm.running_mean.copy_(torch.linspace(-0.5, 0.5, len(norm.running_mean)))
    norm.running_var.copy_(torch.linspace(0.5, 1.5, len(norm.running_var)))
    return made
