"""Families against their stock pipelines, alone and at each level shared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.flux import pipeline_flux_kontext
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus

from darkroom_server.backends.diffusers.families import flux_kontext
from darkroom_server.domain.jobs import ImageSpec, PreviewSpec, Reproducibility, Task
from darkroom_server.pipelines.families import FAMILIES
from tests.parity.crowds import (
    CROWDS,
    edit,
    schedulers_of,
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
    """Edits see their images a thousandth as large as with weights that have learned something."""
    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        true = module.calculate_dimensions

        def smaller(area: int, ratio: float, true: Any = true) -> Any:
            return true(area / 256, ratio)

        monkeypatch.setattr(module, "calculate_dimensions", smaller)
    sizes = [(64, 48), (48, 64), (64, 64)]
    for module in (pipeline_flux_kontext, flux_kontext):
        monkeypatch.setattr(module, "PREFERRED_KONTEXT_RESOLUTIONS", sizes)


def edits(name: str) -> dict[str, dict[str, Any]]:
    """Changes of a family that takes reference images: with one, and with as many as tried."""
    sizes = [(40, 32), (32, 40), (50, 50)][: CROWDS[name].most_references]
    several = {"three-references": edit(*sizes)} if len(sizes) > 1 else {}
    return ({"one-reference": edit(*sizes[:1])} if sizes else {}) | several


def alone() -> list[Any]:
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "without-guidance": {"guidance_scale": 1.0, "step_count": 7},
        "wide": {"width_px": 96, "height_px": 32, "seeds": (0,), "negative_prompt": "a b c d e"},
        "one-step": {"step_count": 1, "prompt": "", "negative_prompt": ""},
    }
    return [
        pytest.param(name, dtype, change, id=f"{name}-{dtype}-{what}")
        for name, crowd in CROWDS.items()
        for dtype in ("fp32", "bf16")
        for what, change in (changes | edits(name) | dict(crowd.special)).items()
    ]


@pytest.mark.parametrize(("name", "dtype", "changes"), alone())
def test_alone_it_equals_stock(
    pipelines: Pipelines, name: str, dtype: str, changes: dict[str, Any]
) -> None:
    pipeline = pipelines(name, dtype)
    spec = spec_of(pipeline, **changes)
    made = stepped(step_model(name, pipeline), spec)
    np.testing.assert_array_equal(made, stock(name, pipeline, spec))


@pytest.mark.parametrize("name", CROWDS)
def test_every_scheduler_of_its_list_equals_stock(pipelines: Pipelines, name: str) -> None:
    pipeline = pipelines(name, "fp32")
    offered = [one for one in FAMILIES[name].schedulers if one in schedulers_of(name, pipeline)]
    assert offered
    for scheduler in offered:
        spec = spec_of(pipeline, scheduler=scheduler, step_count=5)
        made = stepped(step_model(name, pipeline), spec)
        np.testing.assert_array_equal(made, stock(name, pipeline, spec), err_msg=scheduler)


BEGINNING = [name for name in CROWDS if Task.IMAGE_TO_IMAGE in FAMILIES[name].tasks]


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


def mixed(name: str, pipeline: Any, level: Reproducibility) -> list[ImageSpec]:
    changes: list[dict[str, Any]] = [
        {"seeds": (1,), "step_count": 2, "guidance_scale": 2.0},
        {"seeds": (2,), "prompt": "a blue house", "negative_prompt": "reds"},
        {"seeds": (3,), "guidance_scale": 1.0},
        {"seeds": (4,), "step_count": 3, "guidance_scale": 1.0, "prompt": "a RED circle"},
        {"seeds": (5,), "step_count": 3, "prompt": "a RED circle"},
        {"seeds": (6,), "step_count": 3},
    ]
    if name in BEGINNING:
        source = source_spec(strength=0.7)
        changes.append({"seeds": (7,), "task": Task.IMAGE_TO_IMAGE, "source": source})
    for number, change in enumerate(edits(name).values()):
        changes += [
            {**change, "seeds": (8 + number,), "step_count": 3},
            {**change, "seeds": (18 + number,), "step_count": 2, "guidance_scale": 2.0},
        ]
    return [spec_of(pipeline, **one, reproducibility=level) for one in changes]


@pytest.mark.parametrize("name", CROWDS)
def test_exact_steps_are_shared_and_bit_equal_to_stock(
    pipelines: Pipelines, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = pipelines(name, "fp32")
    specs = mixed(name, pipeline, Reproducibility.EXACT)
    model = step_model(name, pipeline)
    if CROWDS[name].shares_exactly:
        made = shared_exactly(model, specs, monkeypatch)
    else:
        made = staggered(model, specs)
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stock(name, pipeline, spec))


@pytest.mark.parametrize("name", CROWDS)
def test_shared_steps_stay_within_the_tolerance(pipelines: Pipelines, name: str) -> None:
    pipeline = pipelines(name, "fp32")
    specs = mixed(name, pipeline, Reproducibility.TOLERANCE)
    for made, spec in zip(staggered(step_model(name, pipeline), specs), specs, strict=True):
        assert_within_tolerance(made, stock(name, pipeline, spec))


@pytest.mark.slow
@pytest.mark.parametrize("name", CROWDS)
def test_exact_images_have_equal_bytes_across_neighbour_schedules(
    pipelines: Pipelines, name: str
) -> None:
    pipeline = pipelines(name, "fp32")
    specs = mixed(name, pipeline, Reproducibility.EXACT)
    assert_equal_among_any_neighbours(lambda: step_model(name, pipeline), specs)


@pytest.mark.parametrize("name", CROWDS)
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
