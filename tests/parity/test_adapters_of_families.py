"""Adapters of every family that takes them, in every layout, against diffusers: to the bit.

The table is families by layouts by uses. A row of it runs always, with all layouts in one picture;
the rest with `make adapters`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.domain.adapters import AdapterUse
from darkroom_server.domain.jobs import ImageSpec, Reproducibility
from darkroom_server.pipelines.families import FAMILIES
from tests.parity.adapter_subjects import (
    SUBJECTS,
    load_into,
    write_every_layer,
    write_files,
)
from tests.parity.random_adapters import use
from tests.parity.shared import shared_exactly, stepped
from tests.parity.test_crowds import small_references

__all__ = ["small_references"]  # a fixture
pytest.importorskip("peft")

Made = tuple[Any, dict[str, Path]]
Pipelines = Callable[[str], Made]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """A family's small pipeline and the files for it, made once."""
    torch.set_num_threads(1)
    made: dict[str, Made] = {}

    def pipeline(name: str) -> Made:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            subject = SUBJECTS[name]
            built = subject.pipeline(folder)
            made[name] = built, write_files(subject, built, folder)
        return made[name]

    return pipeline


#: What a request asks for, as shares of files; files that a family lacks are left out.
Use = dict[str, float]
ALL: Use = {"diffusers": 0.7, "kohya": -0.4, "peft": 0.5, "texts": 0.8}
LAYOUTS = ("diffusers", "kohya", "peft")
USES: dict[str, Use] = {
    "all": ALL,
    **{f"{layout}-one": {layout: 1.0} for layout in LAYOUTS},
    **{f"{layout}-negative": {layout: -0.8} for layout in LAYOUTS},
    "diffusers-and-kohya": {"diffusers": 0.6, "kohya": 0.5},
    "kohya-and-peft": {"kohya": 0.9, "peft": -0.3},
    "peft-and-diffusers": {"peft": 0.4, "diffusers": 1.0},
    "texts": {"texts": 0.9},
    "texts-negative": {"texts": -0.5},
    "kohya-and-texts": {"kohya": 0.3, "texts": 0.9},
}


def rows() -> list[Any]:
    return [
        pytest.param(name, what, id=f"{name}-{what}", marks=slow(what))
        for name in SUBJECTS
        for what in USES
    ]


def slow(what: str) -> list[pytest.MarkDecorator]:
    return [] if what == "all" else [pytest.mark.slow]


def uses(files: dict[str, Path], asked: Use) -> tuple[AdapterUse, ...]:
    return tuple(use(files[name], weight) for name, weight in asked.items() if name in files)


def by_stock(name: str, pipeline: Any, spec: ImageSpec) -> np.ndarray:
    subject, own = SUBJECTS[name], copy.deepcopy(pipeline)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for number, one in enumerate(spec.adapters):
        load_into(own, subject.denoiser, one.adapter.path, f"a{number}")
        tensors = own.text_encoder.named_parameters()
        kept += [(t, t.detach().clone()) for n, t in tensors if f".a{number}." in n]
    # transformers draws the encoders' earlier adapters anew when it loads a later one.
    for tensor, read in kept:
        tensor.data.copy_(read)
    names = [f"a{number}" for number in range(len(spec.adapters))]
    own.set_adapters(names, [one.weight for one in spec.adapters])
    return subject.stock(own, spec)


@pytest.mark.parametrize(("name", "what"), rows())
def test_alone_has_the_bytes_of_diffusers(pipelines: Pipelines, name: str, what: str) -> None:
    pipeline, files = pipelines(name)
    if not all(file in files for file in USES[what]) and what != "all":
        pytest.skip("diffusers reads no such file of the family")
    spec = SUBJECTS[name].spec(pipeline, adapters=uses(files, USES[what]), step_count=2)
    model = SUBJECTS[name].build(pipeline)
    made = stepped(model, spec)
    plain = stepped(model, SUBJECTS[name].spec(pipeline, step_count=2))
    assert not np.array_equal(made, plain)
    np.testing.assert_array_equal(made, by_stock(name, pipeline, spec))


@pytest.mark.parametrize("name", SUBJECTS)
def test_others_in_a_step_change_nothing(
    pipelines: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """One adapter adds to every layer that can be added to, whatever its inputs look like."""
    subject = SUBJECTS[name]
    pipeline, files = pipelines(name)
    every = write_every_layer(subject, pipeline, tmp_path / "every.safetensors")
    asked = [(use(every, 1.0),), uses(files, ALL), (), uses(files, {"diffusers": -0.8})]
    specs = [
        subject.spec(
            pipeline,
            adapters=adapters,
            seeds=(number,),
            step_count=2 + number % 2,
            reproducibility=Reproducibility.EXACT,
        )
        for number, adapters in enumerate([*asked, ()])
    ]
    model = subject.build(pipeline)
    alone = [stepped(model, spec) for spec in specs]
    np.testing.assert_array_equal(alone[0], by_stock(name, pipeline, specs[0]))
    for one, wanted in zip(shared_exactly(model, specs, monkeypatch), alone, strict=True):
        np.testing.assert_array_equal(one, wanted)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_step_that_keeps_nothing_apart_has_each_image_with_its_own(
    pipelines: Pipelines, tmp_path: Path, name: str
) -> None:
    """Layers see all images at once there, some of them token by token."""
    subject = SUBJECTS[name]
    pipeline, files = pipelines(name)
    every = write_every_layer(subject, pipeline, tmp_path / "every.safetensors")
    asked = [(use(every, 1.0),), (use(every, -0.5),), uses(files, ALL), ()]
    model = subject.build(pipeline)
    specs = [
        subject.spec(
            pipeline,
            adapters=adapters,
            seeds=(number,),
            reproducibility=Reproducibility.TOLERANCE,
        )
        for number, adapters in enumerate(asked)
    ]
    images = [model.begin(spec, model.encode(spec), 0) for spec in specs]
    together = model.denoise(model.gather(images))
    alone = torch.cat([model.denoise(model.gather([one])) for one in images])
    largest = float(alone.abs().max())
    assert float((together - alone).abs().max()) <= largest * torch.finfo(alone.dtype).eps ** 0.6


def test_every_family_that_diffusers_has_adapters_for_takes_them() -> None:
    import diffusers

    can = {n for n in FAMILIES if hasattr(getattr(diffusers, n), "_lora_loadable_modules")}
    # Its experts each see some tokens of whichever images.
    assert {n for n, one in FAMILIES.items() if one.takes_adapters} == can - {
        "HiDreamImagePipeline"
    }
