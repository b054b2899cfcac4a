"""Families against their stock pipelines, alone and at each level shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from darkroom_server.domain.jobs import PreviewSpec, Reproducibility, Task
from darkroom_server.pipelines.families import FAMILIES
from tests.parity.crowds import (
    CROWDS,
    begins_with_images,
    edits,
    fills,
    mixed,
    schedulers_of,
    see_small_references,
    small_pipeline,
    spec_of,
    step_model,
    stock,
)
from tests.parity.shared import (
    assert_equal_among_any_neighbours,
    assert_within_tolerance,
    shared_exactly,
    staggered,
    stepped,
)
from tests.parity.test_sdxl_steps import source_spec

Pipelines = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """A family's small pipeline, by the family and its type, built once."""
    torch.set_num_threads(1)
    made: dict[tuple[str, str], Any] = {}

    def pipeline(name: str, dtype: str = "fp32") -> Any:
        if (name, dtype) not in made:
            small = small_pipeline(name, tmp_path_factory.mktemp("words"))
            made[name, dtype] = small.to(torch.bfloat16) if dtype == "bf16" else small
        return made[name, dtype]

    return pipeline


@pytest.fixture(autouse=True)
def small_references(monkeypatch: pytest.MonkeyPatch) -> None:
    see_small_references(monkeypatch)


#: Those that files of their own try are tried here by the slow tests.
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if crowd.has_own_tests else ())
    for name, crowd in CROWDS.items()
]


def alone() -> list[Any]:
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "without-guidance": {"guidance_scale": 1.0, "step_count": 7},
        "wide": {"width_px": 96, "height_px": 32, "seeds": (0,), "negative_prompt": "a b c d e"},
        "one-step": {"step_count": 1, "prompt": "", "negative_prompt": ""},
    }
    return [
        pytest.param(
            name,
            dtype,
            change,
            id=f"{name}-{dtype}-{what}",
            marks=pytest.mark.slow if crowd.has_own_tests and what not in fills(name) else (),
        )
        for name, crowd in CROWDS.items()
        for dtype in ("fp32", "bf16")
        for what, change in (changes | edits(name) | fills(name) | dict(crowd.special)).items()
    ]


@pytest.mark.parametrize(("name", "dtype", "changes"), alone())
def test_alone_it_equals_stock(
    pipelines: Pipelines, name: str, dtype: str, changes: dict[str, Any]
) -> None:
    pipeline = pipelines(name, dtype)
    spec = spec_of(pipeline, **changes)
    made = stepped(step_model(name, pipeline), spec)
    np.testing.assert_array_equal(made, stock(name, pipeline, spec))


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_of_its_list_equals_stock(pipelines: Pipelines, name: str) -> None:
    pipeline = pipelines(name, "fp32")
    offered = [one for one in FAMILIES[name].schedulers if one in schedulers_of(name, pipeline)]
    assert offered
    for scheduler in offered:
        spec = spec_of(pipeline, scheduler=scheduler, step_count=5)
        made = stepped(step_model(name, pipeline), spec)
        np.testing.assert_array_equal(made, stock(name, pipeline, spec), err_msg=scheduler)


BEGINNING = [one for one in NAMES if begins_with_images(str(one.values[0]))]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("strength", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("name", BEGINNING)
def test_image_to_image_equals_stock(
    pipelines: Pipelines, name: str, strength: float, dtype: str
) -> None:
    pipeline, source = pipelines(name, dtype), source_spec(strength=strength)
    spec = spec_of(pipeline, task=Task.IMAGE_TO_IMAGE, source=source, step_count=5)
    made = stepped(step_model(name, pipeline), spec)
    np.testing.assert_array_equal(made, stock(name, pipeline, spec))


@pytest.mark.parametrize("name", NAMES)
def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: Pipelines, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipelines(name, "fp32")
    specs = mixed(name, pipeline, Reproducibility.EXACT)
    model = step_model(name, pipeline)
    made = shared_exactly(model, specs, monkeypatch)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(name, pipeline, spec))


@pytest.mark.parametrize("name", NAMES)
def test_shared_steps_stay_within_the_tolerance(pipelines: Pipelines, name: str) -> None:
    pipeline = pipelines(name, "fp32")
    specs = mixed(name, pipeline, Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(step_model(name, pipeline), specs), specs, strict=True):
        assert_within_tolerance(made, stock(name, pipeline, spec))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: Pipelines, name: str
) -> None:
    pipeline = pipelines(name, "fp32")
    specs = mixed(name, pipeline, Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: step_model(name, pipeline), specs)


@pytest.mark.parametrize("name", NAMES)
def test_the_last_preview_is_of_the_final_latents(pipelines: Pipelines, name: str) -> None:
    pipeline = pipelines(name, "fp32")
    model = step_model(name, pipeline)
    spec = spec_of(pipeline, width_px=96, preview=PreviewSpec(interval_step_count=1))
    one = model.begin(spec, model.encode(spec), 0)
    previews = []
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
        previews.append(model.painter([one])()[0])
    one.denoised = None
    last = model.painter([one])()[0]
    assert last.shape[1] * 64 == last.shape[0] * 96
    # The last step goes all the way to what it aims at, up to rounding.
    assert np.abs(previews[-1].astype(int) - last.astype(int)).max() <= 1
    assert (previews[0] != previews[-1]).any()
