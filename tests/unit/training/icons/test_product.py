"""The committed models of version 2 are the ones that were measured, and good enough."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from darkroom_training.export import size_bytes
from darkroom_training.icons import vocabulary
from darkroom_training.icons.exporting import VERSION, card, config
from darkroom_training.icons.measurement import sample_trials
from darkroom_training.icons.product import PRODUCTS, Product
from tests.unit.repository.builders import Repository

REPOSITORY = Path(__file__).parents[4] / "model_repo"
#: What people type too, and the models never learnt.
OTHERS = (
    *("quokka", "lighthouse", "zebra", "samurai", "spider", "waterfall", "violin", "tower"),
    *("photograph", "realistic", "watercolor", "portrait", "cyberpunk", "4k", "detailed"),
    *("running", "eating", "old", "wooden", "golden", "between", "without", "très", "猫"),
)
SERVED = tuple(name for name in PRODUCTS if (REPOSITORY / name / VERSION).exists())


@pytest.fixture(params=SERVED)
def product(request: pytest.FixtureRequest) -> Product:
    return PRODUCTS[request.param]


@pytest.fixture
def report(product: Product) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / product.name / "evaluation.json").read_text())
    return found


def test_there_is_one() -> None:
    assert "tiny-sdxl" in SERVED


def test_the_figures_pass_the_models_gate(product: Product, report: dict[str, Any]) -> None:
    assert product.faults(report) == []


def test_the_figures_were_measured_on_these_files(product: Product, report: dict[str, Any]) -> None:
    version = REPOSITORY / product.name / VERSION
    manifest = (version / "MANIFEST.sha256").read_bytes()
    assert report["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    for line in manifest.decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((version / name).read_bytes()).hexdigest() == digest, name


def test_the_readme_and_the_config_are_those_of_the_figures(
    product: Product, report: dict[str, Any]
) -> None:
    folder = REPOSITORY / product.name
    assert (folder / "README.md").read_text() == card(product, report, size_bytes(folder / VERSION))
    assert (folder / "config.pbtxt").read_text() == config(product)
    assert report["settings"]["step_count"] == product.settings.step_count
    assert report["settings"]["guidance_scale"] == product.settings.guidance_scale


def test_the_config_lists_the_words_of_the_captions(product: Product) -> None:
    known = Repository(REPOSITORY).model(product.name).info.vocabulary.words
    assert list(known) == list(vocabulary.words())


def test_no_word_of_a_caption_is_unknown_and_every_other_word_is(product: Product) -> None:
    known = Repository(REPOSITORY).model(product.name).info.vocabulary
    rng = random.Random(4)
    for trial in sample_trials(300, 4):
        assert known.unknown_in(trial.prompt) == ()
        words = trial.prompt.split()
        other = rng.choice(OTHERS)
        words.insert(rng.randrange(len(words) + 1), other)
        assert known.unknown_in(" ".join(words)) == (other,), words
