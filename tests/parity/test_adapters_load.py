"""A crowd of mixed requests, most of them with adapters: each image has the bytes it has alone.

A short form by default; `make adapters` draws more than two hundred images.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darkroom_server.domain.adapters import AdapterUse
from darkroom_server.domain.jobs import ImageSpec
from tests.parity.random_adapters import ATTENTION, TEXTS, random_pairs, use, write_diffusers
from tests.parity.shared import proved, stepped
from tests.parity.test_exact_load import Case, case, crowd, serve

__all__ = ["case"]  # a fixture

#: What a crowd draws from: ranks of the denoiser's pairs, and whether text encoders have some.
ADAPTERS = {"a": (4, False), "b": (4, False), "c": (4, True), "d": (2, False), "e": (16, True)}
#: Of images, those that have adapters.
ADAPTED_SHARE = 0.8
NAMES = ["sdxl", "sd", "sd3", "flux-dev", "flux-schnell", "flux-fill"]


def written(pipeline: Any, folder: Path) -> dict[str, Path]:
    denoiser = "unet" if hasattr(pipeline, "unet") else "transformer"
    files = {}
    for seed, (name, (rank, has_texts)) in enumerate(ADAPTERS.items()):
        module = getattr(pipeline, denoiser)
        parts = {denoiser: random_pairs(module, ATTENTION, rank=rank, seed=seed)}
        if has_texts:
            encoder = pipeline.text_encoder
            parts["text_encoder"] = random_pairs(encoder, TEXTS, rank=4, seed=seed, size=0.3)
        files[name] = write_diffusers(folder / f"{name}.safetensors", parts)
    return files


def adapted(
    specs: Sequence[ImageSpec], files: dict[str, Path], rng: random.Random
) -> list[ImageSpec]:
    """The same, most of them with one to three adapters at weights of their own."""

    def drawn() -> tuple[AdapterUse, ...]:
        if rng.random() > ADAPTED_SHARE:
            return ()
        names = rng.sample(list(files), rng.randint(1, 3))
        return tuple(use(files[name], rng.choice([1.0, 0.8, 0.35, -0.6])) for name in names)

    return [dataclasses.replace(one, adapters=drawn(), feature_cache=None) for one in specs]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sdxl" else pytest.mark.slow) for name in NAMES]
)
def test_a_crowd_with_adapters_has_the_bytes_of_each_alone(
    name: str, case: Case, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(name)
    pipeline = case.pipeline(tmp_path)
    model = case.build(pipeline)
    specs = adapted(crowd(case, rng), written(pipeline, tmp_path), rng)
    made = serve(model, specs, proved(model, specs), seed=1)
    for number, image in made.images.items():
        np.testing.assert_array_equal(image, stepped(model, specs[number]), str(specs[number]))
    products = model.adapters.products  # type: ignore[attr-defined]
    assert products.batched_count > 0
    assert len(made.images) >= 0.7 * len(specs)
    assert made.mean_rows > 1.5
    record_property("image_count", len(made.images))
    adapted_count = sum(bool(specs[number].adapters) for number in made.images)
    print(
        f"{name}: {len(made.images)} images bit-equal, {adapted_count} of them with adapters, "
        f"{made.mean_rows:.2f} rows a step; {products.batched_count} products in one call with "
        f"others, {products.single_count} alone"
    )
