"""Adapters of the other families against diffusers with the same ones loaded, to the bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from tests.parity import test_flux, test_sd, test_sd3
from tests.parity.random_adapters import (
    ATTENTION,
    TEXTS,
    random_pairs,
    use,
    write_diffusers,
)
from tests.parity.shared import shared_exactly, stepped
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_pipelines import random_sd
from tests.parity.tiny_sd3 import random_sd3

pytest.importorskip("peft")


@dataclass(frozen=True)
class Subject:
    """A family's small pipeline, its step model, and the stock pipeline's picture."""

    pipeline: Any
    build: Callable[[Any], Any]
    stock: Callable[[Any, ImageSpec], np.ndarray]
    spec: Callable[..., ImageSpec]
    denoiser: str = "transformer"


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizers")
    return {
        "sd": Subject(random_sd(folder / "sd"), test_sd.build, test_sd.stock, image_spec, "unet"),
        "schnell": flux("schnell", random_flux(folder / "a", guided=False, dynamic=False)),
        "dev": flux("dev", random_flux(folder / "b", guided=True)),
        "dev-bf16": flux("dev", random_flux(folder / "c", guided=True).to(torch.bfloat16)),
        "fill": flux("fill", random_flux_fill(folder / "d")),
        "sd3": Subject(
            random_sd3(folder / "sd3"), test_sd3.build, test_sd3.stock, test_sd3.sd3_spec
        ),
    }


def flux(kind: str, pipeline: Any) -> Subject:
    return Subject(pipeline, test_flux.build, test_flux.stock, partial(test_flux.flux_spec, kind))


NAMES = ["sd", "schnell", "dev", "dev-bf16", "fill", "sd3"]


def written(subject: Subject, folder: Path) -> dict[str, Path]:
    """Two adapters: one of the denoiser, one with text encoders."""
    denoiser = getattr(subject.pipeline, subject.denoiser)
    first = {subject.denoiser: random_pairs(denoiser, ATTENTION, rank=4, seed=1)}
    second = {subject.denoiser: random_pairs(denoiser, ("to_q", "proj_out"), rank=2, seed=2)}
    second["text_encoder"] = random_pairs(
        subject.pipeline.text_encoder, TEXTS, rank=4, seed=3, size=0.3
    )
    return {
        "denoiser": write_diffusers(folder / "denoiser.safetensors", first),
        "with texts": write_diffusers(folder / "texts.safetensors", second),
    }


def made_with_stock(subject: Subject, spec: ImageSpec) -> np.ndarray:
    own = copy.deepcopy(subject.pipeline)
    for number, one in enumerate(spec.adapters):
        own.load_lora_weights(str(one.adapter.path), adapter_name=f"a{number}")
    names = [f"a{number}" for number in range(len(spec.adapters))]
    own.set_adapters(names, [one.weight for one in spec.adapters])
    return subject.stock(own, spec)


USES = {
    "one": [("denoiser", 1.0)],
    "negative": [("denoiser", -0.8)],
    "with texts": [("with texts", 0.9)],
    "two": [("with texts", 0.5), ("denoiser", 0.7)],
}


@pytest.mark.parametrize("uses", USES)
@pytest.mark.parametrize("name", NAMES)
def test_alone_has_the_bytes_of_diffusers(
    subjects: dict[str, Subject], tmp_path: Path, name: str, uses: str
) -> None:
    subject = subjects[name]
    files = written(subject, tmp_path)
    spec = subject.spec(adapters=tuple(use(files[file], weight) for file, weight in USES[uses]))
    model = subject.build(subject.pipeline)
    made = stepped(model, spec)
    assert not np.array_equal(made, stepped(model, subject.spec()))
    np.testing.assert_array_equal(made, made_with_stock(subject, spec))


@pytest.mark.parametrize("name", NAMES)
def test_others_in_a_step_change_nothing(
    subjects: dict[str, Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    subject = subjects[name]
    files = written(subject, tmp_path)
    specs = [
        subject.spec(
            adapters=tuple(use(files[file], weight) for file, weight in USES.get(one, ())),
            seeds=(number,),
            step_count=3 + number % 2,
            reproducibility=Reproducibility.EXACT,
        )
        for number, one in enumerate([*USES, "none", "none"])
    ]
    model = subject.build(subject.pipeline)
    alone = [stepped(model, spec) for spec in specs]
    made = shared_exactly(model, specs, monkeypatch)
    for one, wanted in zip(made, alone, strict=True):
        np.testing.assert_array_equal(one, wanted)
