"""The embedded model draws what prompts say, as often as its README claims."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from darkroom_server.models.config_file import read_config
from darkroom_server.models.problems import ProblemLog
from darkroom_training.evaluation import judge
from darkroom_training.export import size_bytes
from darkroom_training.measurement import (
    GUIDANCE_SCALE,
    STEP_COUNT,
    figures,
    gate_faults,
    measure,
    sample_trials,
    share,
)
from darkroom_training.model_card import render
from darkroom_training.scenes import SIZE_PX

MODEL = Path(__file__).parents[2] / "model_repo" / "tiny-sdxl"
VERSION = MODEL / "1"
#: Prompts drawn here; the evaluation behind the README drew others.
SAMPLE = 24
SAMPLE_SEED = 1_000
#: How likely a sample may be to fail though the README's figure is true.
FALSE_ALARM = 1e-3


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    if not VERSION.exists():
        pytest.skip("model_repo/tiny-sdxl/1 is not there: export the embedded model first")
    found: dict[str, Any] = json.loads((MODEL / "evaluation.json").read_text())
    return found


def least_right(of: int, chance: float) -> int:
    """The largest count that `of` tries fall short of in less than `FALSE_ALARM` of the cases."""
    below = 0.0
    for right in range(of + 1):
        below += math.comb(of, right) * chance**right * (1 - chance) ** (of - right)
        if below > FALSE_ALARM:
            return right
    return of


@pytest.mark.parametrize(
    ("of", "chance", "least"),
    [
        pytest.param(24, 0.5, 5, id="a-coin"),
        pytest.param(24, 0.9, 16, id="nine-in-ten"),
        pytest.param(24, 1.0, 24, id="always"),
    ],
)
def test_the_margin_is_that_of_the_sample(of: int, chance: float, least: int) -> None:
    assert least_right(of, chance) == least


def test_the_figures_are_those_of_the_files_that_are_there(report: dict[str, Any]) -> None:
    manifest = (VERSION / "MANIFEST.sha256").read_bytes()
    assert report["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    for line in manifest.decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((VERSION / name).read_bytes()).hexdigest() == digest, name


def test_the_readme_shows_these_figures(report: dict[str, Any]) -> None:
    shown = render(report, size_bytes=size_bytes(VERSION))
    assert (MODEL / "README.md").read_text() == shown


def test_the_evaluation_passed_the_gate_on_at_least_a_hundred_prompts(
    report: dict[str, Any],
) -> None:
    overall = report["generate"]["overall"]
    assert overall["prompts"] >= 100
    assert gate_faults(overall) == []


def test_the_figures_were_measured_at_the_defaults() -> None:
    log = ProblemLog("tiny-sdxl")
    content = (MODEL / "config.pbtxt").read_bytes()
    config = read_config(content, shown="config.pbtxt", problems=log)
    assert config is not None
    defaults = config.settings.defaults
    assert (defaults.width_px, defaults.height_px) == (SIZE_PX, SIZE_PX)
    assert (defaults.step_count, defaults.guidance_scale) == (STEP_COUNT, GUIDANCE_SCALE)


def test_a_fresh_sample_is_drawn_as_well_as_the_readme_says(report: dict[str, Any]) -> None:
    pipeline = DiffusionPipeline.from_pretrained(
        VERSION, torch_dtype=torch.float32, local_files_only=True
    )
    results = measure(pipeline, sample_trials(SAMPLE, SAMPLE_SEED))
    drawn, claimed = figures(results)["overall"], report["generate"]["overall"]
    faults = [f"{r.trial.prompt}: {r.verdict.fault}" for r in results if not r.verdict.right]
    for what in ("both", "shape"):
        least = least_right(SAMPLE, min(share(claimed[what]), 0.99))
        assert drawn[what]["right"] >= least, (what, drawn[what], least, faults)
    # The pictures are of these scenes and of no others: judged by each other's, few pass.
    others = [*results[1:], results[0]]
    mixed = [
        judge(r.picture, other.trial.scene).right for r, other in zip(results, others, strict=True)
    ]
    assert sum(mixed) <= 2
