"""Edits that run whole, with one and three images, also of classes that cannot be saved here.

Unlike in `test_every_pipeline.py` the pipelines are run where they were built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from darkroom_server.backends.diffusers.pipeline_inspection import inspected_call
from darkroom_server.backends.diffusers.whole_request import WholeRequestModel
from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.references import REFERENCE_RULES
from darkroom_server.domain.whole_pipelines import trial_prompt
from tests.parity.crowds import edit, see_small_references
from tests.parity.device import loads_onto_the_processor
from tests.parity.pipeline_kits import build, kit_of
from tests.parity.test_every_pipeline import made_by_stock
from tests.parity.test_sdxl_steps import image_spec

#: Of none an edge is a multiple of a token's.
SIZES = ((72, 97), (65, 80), (130, 70))
#: One that takes one image, and one that takes several; the others are slow tests.
SHORT = ("Flux2KleinPipeline", "FluxKontextPipeline")
EDITING = [name for name in REFERENCE_RULES if kit_of(name) is not None]


def cases() -> list[Any]:
    return [
        pytest.param(name, count, marks=() if name in SHORT else pytest.mark.slow)
        for name in EDITING
        for count in (1, 3)
        if count <= REFERENCE_RULES[name].max_count
    ]


def small(name: str, folder: Path) -> Any:
    torch.set_num_threads(1)
    pipeline = build(getattr(diffusers, name), folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def spec_of(pipeline: Any, **changes: Any) -> ImageSpec:
    name = type(pipeline).__name__
    given = {
        "scheduler": type(pipeline.scheduler).__name__,
        "prompt": trial_prompt(name) or "a red circle",
        "negative_prompt": None,
        "width_px": 64,
        "height_px": 96,
        "step_count": 2,
    }
    return image_spec(**(given | changes))


def assert_equal_to_stock(pipeline: Any, spec: ImageSpec) -> None:
    model = WholeRequestModel(pipeline, allowed_schedulers=(spec.scheduler,))
    model.compatible_key(spec)
    ((made,),) = model.run([spec], lambda _, __: None)
    for part, scheduler in model._fresh_schedulers(spec).items():
        setattr(pipeline, part, scheduler)
    wanted = made_by_stock(pipeline, inspected_call(type(pipeline)), spec)
    np.testing.assert_array_equal(made, np.asarray(wanted.convert("RGB")))


@loads_onto_the_processor
@pytest.mark.parametrize(("name", "count"), cases())
def test_a_whole_edit_has_the_stock_pipelines_pixels(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_small_references(monkeypatch)
    pipeline = small(name, tmp_path)
    assert_equal_to_stock(pipeline, spec_of(pipeline, **edit(*SIZES[:count])))
