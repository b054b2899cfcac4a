"""The committed models are the ones that were measured, and good enough."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from darkroom_training.export import size_bytes
from darkroom_training.model_card import render
from darkroom_training.product import MOST_OUTSIDE, PRODUCTS, Product

REPOSITORY = Path(__file__).parents[3] / "model_repo"
#: Those whose version 1 is served; of the others `icons/test_product.py` speaks.
SERVED = ("tiny-flux-schnell", "tiny-flux-fill")


@pytest.fixture(params=SERVED)
def product(request: pytest.FixtureRequest) -> Product:
    return PRODUCTS[request.param]


@pytest.fixture
def report(product: Product) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / product.name / "evaluation.json").read_text())
    return found


def test_the_figures_pass_the_models_gate(product: Product, report: dict[str, Any]) -> None:
    assert product.faults(report) == []


def test_the_figures_were_measured_on_these_files(product: Product, report: dict[str, Any]) -> None:
    manifest = (REPOSITORY / product.name / "1" / "MANIFEST.sha256").read_bytes()
    assert report["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    for line in manifest.decode().splitlines():
        digest, name = line.split("  ")
        found = (REPOSITORY / product.name / "1" / name).read_bytes()
        assert hashlib.sha256(found).hexdigest() == digest, name


def test_the_figures_were_measured_at_the_models_defaults(
    product: Product, report: dict[str, Any]
) -> None:
    config = (REPOSITORY / product.name / "config.pbtxt").read_text()
    settings = report["settings"]
    assert settings["step_count"] == product.settings.step_count
    assert f"step_count: {settings['step_count']}\n" in config
    assert f"guidance_scale: {settings['guidance_scale']:g}\n" in config


def test_the_readme_shows_these_figures(product: Product, report: dict[str, Any]) -> None:
    folder = REPOSITORY / product.name
    card = render(report, size_bytes=size_bytes(folder / "1"), name=product.name)
    assert (folder / "README.md").read_text() == card


def test_all_models_together_stay_small() -> None:
    folders = [REPOSITORY / name for name in PRODUCTS]
    adapters = [folder / "adapters" for folder in folders if (folder / "adapters").exists()]
    assert sum(map(size_bytes, folders)) - sum(map(size_bytes, adapters)) < 60e6
    assert sum(map(size_bytes, adapters)) < 1e6


def _count(right: int) -> dict[str, int]:
    return {"right": right, "of": 100}


@pytest.mark.parametrize(
    ("shape", "outside", "faults"),
    [
        pytest.param(90, 6.0, 0, id="exactly-enough"),
        pytest.param(89, 6.0, 1, id="shapes-too-few"),
        pytest.param(90, 6.1, 1, id="surroundings-changed"),
    ],
)
def test_a_fill_must_be_right_inside_and_change_little_outside(
    shape: int, outside: float, faults: int
) -> None:
    fill = {
        "object at place": _count(95),
        "shape": _count(shape),
        "outside difference before pasting": outside,
    }
    assert MOST_OUTSIDE == 6.0
    assert len(PRODUCTS["tiny-flux-fill"].faults({"fill": fill})) == faults
