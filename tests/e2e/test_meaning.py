"""The embedded models draw and fill what prompts say, as often as their READMEs claim."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from darkroom_training.evaluation import judge
from darkroom_training.fill_measurement import fill_figures, measure_fill, sample_fill_trials
from darkroom_training.icons import classifier, judgement
from darkroom_training.icons import measurement as icons
from darkroom_training.icons.product import PRODUCTS as ICON_PRODUCTS
from darkroom_training.measurement import Figures, figures, measure, sample_trials, share
from darkroom_training.product import PRODUCTS

REPOSITORY = Path(__file__).parents[2] / "model_repo"
#: Prompts drawn here; the evaluations behind the READMEs drew others.
SAMPLE = 24
SAMPLE_SEED = 1_000
#: How likely a sample may be to fail though the README's figure is true.
FALSE_ALARM = 1e-3


def least_right(of: int, chance: float) -> int:
    """The largest count that `of` tries fall short of in less than `FALSE_ALARM` of the cases."""
    below = 0.0
    for right in range(of + 1):
        below += math.comb(of, right) * chance**right * (1 - chance) ** (of - right)
        if below > FALSE_ALARM:
            return right
    return of


def report(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / name / "evaluation.json").read_text())
    return found


def pipeline(name: str, version: str = "1") -> Any:
    return DiffusionPipeline.from_pretrained(
        REPOSITORY / name / version, torch_dtype=torch.float32, local_files_only=True
    )


def assert_as_claimed(
    found: Figures,
    claimed: Figures,
    faults: Sequence[str],
    counted: Sequence[str] = ("both", "shape"),
) -> None:
    for what in counted:
        least = least_right(SAMPLE, min(share(claimed[what]), 0.99))
        assert found[what]["right"] >= least, (what, found[what], least, faults)


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


@pytest.mark.parametrize(("name", "count"), [("tiny-sdxl", 300), ("tiny-flux-schnell", 200)])
def test_the_evaluation_was_of_hundreds_of_prompts(name: str, count: int) -> None:
    assert report(name)["generate"]["overall"]["prompts"] == count


def test_the_evaluation_was_of_two_hundred_fills() -> None:
    assert report("tiny-flux-fill")["fill"]["prompts"] == 200


def test_a_fresh_sample_of_things_is_drawn_as_well_as_the_readme_says() -> None:
    name = "tiny-sdxl"
    trials, judge_model = icons.sample_trials(SAMPLE, SAMPLE_SEED), classifier.kept()
    settings = ICON_PRODUCTS[name].settings
    results = icons.measure(pipeline(name, "2"), trials, judge_model, settings=settings)
    faults = [f"{r.prompt}: {r.verdict.fault}" for r in results if not r.verdict.right]
    claimed = report(name)["generate"]["overall"]
    assert_as_claimed(icons.figures(results)["overall"], claimed, faults, ("things", "all"))
    others = [*results[1:], results[0]]
    mixed = [
        judgement.judge(judge_model, r.picture, other.scene).right
        for r, other in zip(results, others, strict=True)
    ]
    assert sum(mixed) <= 2


def test_the_adapter_takes_the_colours_away() -> None:
    """By its weight; what is drawn stays."""
    drawn = pipeline("tiny-sdxl", "2")
    file = REPOSITORY / "tiny-sdxl" / "adapters" / "grayscale" / "1" / "grayscale.safetensors"
    drawn.load_lora_weights(str(file), adapter_name="grayscale")
    spreads, settings = [], ICON_PRODUCTS["tiny-sdxl"].settings
    for weight in (0.0, 0.5, 1.0):
        drawn.set_adapters(["grayscale"], [weight])
        trials = icons.sample_trials(8, SAMPLE_SEED)
        results = icons.measure(drawn, trials, classifier.kept(), settings=settings)
        pictures = np.stack([result.picture for result in results]).astype(int)
        spreads.append(float(np.ptp(pictures, axis=-1).mean()))
    colored, half, grey = spreads
    assert grey < 0.35 * colored
    assert grey < half < colored


@pytest.mark.parametrize("name", ["tiny-flux-schnell"])
def test_a_fresh_sample_is_drawn_as_well_as_the_readme_says(name: str) -> None:
    trials = sample_trials(SAMPLE, SAMPLE_SEED)
    results = measure(pipeline(name), trials, settings=PRODUCTS[name].settings)
    faults = [f"{r.trial.prompt}: {r.verdict.fault}" for r in results if not r.verdict.right]
    assert_as_claimed(figures(results)["overall"], report(name)["generate"]["overall"], faults)
    # The pictures are of these scenes and of no others: judged by each other's, few pass.
    others = [*results[1:], results[0]]
    mixed = [
        judge(r.picture, other.trial.scene).right for r, other in zip(results, others, strict=True)
    ]
    assert sum(mixed) <= 2


def test_a_fresh_sample_is_filled_as_well_as_the_readme_says() -> None:
    name = "tiny-flux-fill"
    trials = sample_fill_trials(SAMPLE, SAMPLE_SEED)
    results = measure_fill(pipeline(name), trials, settings=PRODUCTS[name].settings)
    faults = [f"{r.trial.prompt}: {r.verdict.fault}" for r in results if not r.verdict.right]
    assert_as_claimed(fill_figures(results), report(name)["fill"], faults)
