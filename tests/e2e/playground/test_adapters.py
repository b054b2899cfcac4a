"""Adapters in the playground: chosen from the model's own, weighed, and told of."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from safetensors.numpy import save_file

from bench.serving import Server, serving
from tests.e2e.playground.conftest import (
    REPOSITORY,
    downloaded,
    generate,
    note,
    playwright,
    shoot,
)


def write_adapter(model: Path, name: str, version: int, settings: str = "") -> None:
    """An adapter of random pairs for the model's attention, in the layout of diffusers."""
    unet = next((model / "2" / "unet").glob("*.safetensors"))
    with unet.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        shapes = {key: value.get("shape") for key, value in json.loads(file.read(length)).items()}
    random = np.random.default_rng(version)
    tensors = {}
    for key, shape in shapes.items():
        if key.endswith("to_q.weight"):
            layer = f"unet.{key.removesuffix('.weight')}"
            down, up = (4, shape[1]), (shape[0], 4)
            tensors[f"{layer}.lora_A.weight"] = random.normal(0, 0.3, down).astype(np.float32)
            tensors[f"{layer}.lora_B.weight"] = random.normal(0, 0.3, up).astype(np.float32)
    folder = model / "adapters" / name
    (folder / str(version)).mkdir(parents=True)
    save_file(tensors, folder / str(version) / f"{name}.safetensors")
    if settings:
        (folder / "adapter.pbtxt").write_text(settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    model = models / "tiny-sdxl"
    shutil.copytree(
        REPOSITORY / "model_repo" / "tiny-sdxl", model, ignore=shutil.ignore_patterns("adapters")
    )
    write_adapter(model, "ink", 1)
    write_adapter(model, "ink", 2, 'default_weight: 0.8 trigger_words: "quokka ink"')
    for i in range(8):
        write_adapter(model, f"other-{i}", 1)
    with serving(models, "--worker-thread-count", "1") as server:
        server.until_ready("tiny-sdxl")
        yield server


@pytest.fixture
def small(page: playwright.Page) -> playwright.Page:
    """The page with a small request."""
    page.fill("#step_count", "2")
    return page


def add(page: playwright.Page, name: str) -> None:
    page.select_option("#adapter-choice", name)
    page.click("#adapter-add")


def sent(page: playwright.Page) -> list[dict[str, object]]:
    """The adapters of the request as it would be sent."""
    if not page.locator("#snippet").is_visible():
        page.locator("#snippets summary").click()
    text = page.locator("#snippet").inner_text()
    body, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
    found: list[dict[str, object]] = body.get("adapters", [])
    return found


def test_those_of_the_model_are_offered_with_their_versions(page: playwright.Page) -> None:
    offered = page.locator("#adapter-choice option").all_inner_texts()
    assert offered[:3] == ["ink", "ink/1", "other-0"]
    add(page, "ink")
    # One adapter is in a request once.
    assert "ink/1" not in page.locator("#adapter-choice option").all_inner_texts()
    assert sent(page) == [{"name": "ink", "weight": 0.8}]
    add(page, "other-3")
    assert [each["name"] for each in sent(page)] == ["ink", "other-3"]
    page.locator(".adapter .away").first.click()
    assert sent(page) == [{"name": "other-3", "weight": 1}]


def test_weights_change_the_picture_and_stand_below_it(small: playwright.Page) -> None:
    generate(small, "a house", "7")
    plain = downloaded(small)
    add(small, "ink")
    generate(small, "a house", "7")
    with_ink = downloaded(small)
    assert "ink 0.8" in small.locator(".result").first.inner_text()
    assert with_ink.tobytes() != plain.tobytes()
    small.fill(".adapter input[type=number]", "-1.5")
    assert small.input_value(".adapter input[type=range]") == "-1.5"
    generate(small, "a house", "7")
    assert "ink -1.5" in small.locator(".result").first.inner_text()
    assert downloaded(small).tobytes() != with_ink.tobytes()
    shoot(small, "adapters")


def test_their_words_go_into_the_prompt_and_are_known_with_them(small: playwright.Page) -> None:
    add(small, "ink")
    small.fill("#prompt", "a house")
    small.locator(".adapter .chip").click()
    small.locator(".adapter .chip").click()
    assert small.input_value("#prompt") == "a house, quokka ink"
    generate(small, "a house, quokka ink", "7")
    assert "not taught" not in small.locator(".result").first.inner_text()
    small.locator(".adapter .away").click()
    generate(small, "a house, quokka ink", "7")
    assert "Drawn without quokka, ink" in small.locator(".result").first.inner_text()


def test_what_is_wrong_with_a_weight_is_told_at_the_adapters(small: playwright.Page) -> None:
    add(small, "ink")
    small.eval_on_selector(".adapter input[type=number]", "input => input.max = ''")
    small.fill(".adapter input[type=number]", "11")
    small.press("#prompt", "Enter")
    assert "'ink' is not between -10 and 10" in note(small, "adapters")
    small.fill(".adapter input[type=number]", "1")
    small.locator("#note-adapters").wait_for(state="detached")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_by_the_keyboard_alone_up_to_eight(page: playwright.Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    for i in range(8):
        page.focus("#adapter-add")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.type") == "range"
        if not i:
            page.keyboard.press("ArrowLeft")
            assert sent(page) == [{"name": "ink", "weight": 0.75}]
    assert page.locator("#adapter-choice").is_hidden()
    assert "at most 8" in page.locator("#adapters-hint").inner_text()
    assert Axe().run(page).violations_count == 0
    page.locator(".adapter .away").last.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "away"
    assert page.locator("#adapter-choice").is_visible()
