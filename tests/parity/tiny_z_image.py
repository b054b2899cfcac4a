"""A small Z-Image pipeline with random weights, built without any download."""

from __future__ import annotations

from pathlib import Path

import diffusers

from tests.parity.pipeline_kits import build


def random_z_image(folder: Path) -> diffusers.ZImagePipeline:
    """The VAE has factor 8 and samples."""
    made: diffusers.ZImagePipeline = build(diffusers.ZImagePipeline, folder)
    return made
