"""Limits of a config against what the denoiser can draw, for every family."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.pipelines.schedulers import SchedulerKind
from tests.unit.repository.builders import HIDREAM_INDEX, Repository, denoiser_class

TABLE = {"pos_embed_max_size": 96}


def index_of(class_name: str) -> dict[str, Any]:
    family = FAMILIES[class_name]
    scheduler = "FlowMatchEulerDiscreteScheduler"
    if family.scheduler_kind is SchedulerKind.DIFFUSION:
        scheduler = "EulerDiscreteScheduler"
    if class_name == HIDREAM_INDEX["_class_name"]:
        return HIDREAM_INDEX
    return {
        "_class_name": class_name,
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        family.denoiser: ["diffusers", denoiser_class(class_name)],
        "vae": ["diffusers", next(iter(family.honours.vaes))],
    }


def told(repository: Repository, class_name: str, config: str, **denoiser: Any) -> list[str]:
    name = FAMILIES[class_name].denoiser
    repository.pipeline("m", index=index_of(class_name), configs={name: denoiser})
    repository.config("m", config)
    return [one for one in repository.complaints() if "max_size_px" in one or "pixel" in one]


# Of what runs in no other way, a denoiser with such a table is refused as a whole.
@pytest.mark.parametrize(
    "class_name", [name for name, family in FAMILIES.items() if family.can_run_whole]
)
def test_an_edge_without_positions_is_refused(repository: Repository, class_name: str) -> None:
    most_px = 96 * 8 * FAMILIES[class_name].packing
    fits = told(repository, class_name, f"limits {{ max_size_px: {most_px} }}", **TABLE)
    assert fits == []
    [problem] = told(repository, class_name, f"limits {{ max_size_px: {most_px + 64} }}", **TABLE)
    assert "error" in problem
    assert f"max_size_px {most_px + 64} is above {most_px}" in problem


@pytest.mark.parametrize("class_name", FAMILIES)
def test_without_a_table_of_positions_any_edge_may_be_tried(
    repository: Repository, class_name: str
) -> None:
    assert told(repository, class_name, "limits { max_size_px: 8192 }") == []


@pytest.mark.parametrize("class_name", FAMILIES)
def test_an_area_that_stays_bounded_is_told(repository: Repository, class_name: str) -> None:
    found = told(repository, class_name, "limits { max_size_px: 8192 max_pixel_count: 67108864 }")
    if FAMILIES[class_name].bounds_area:
        [problem] = found
        assert "warning" in problem
        assert "which stay the limit" in problem
    else:
        assert found == []
