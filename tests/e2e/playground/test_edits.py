"""Reference images in the playground: several at once, in an order that people choose."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from bench.serving import Server, serving
from tests.e2e.playground.conftest import downloaded, note, opened, playwright, shoot

COLOURS = {"red": (200, 0, 0), "green": (10, 150, 0), "blue": (3, 0, 220)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Three fakes: one that edits, one that does nothing else, and one that does not."""
    models = tmp_path_factory.mktemp("models")
    configs = {
        "tiny-sdxl": "tasks: TASK_TEXT_TO_IMAGE",
        "klein": "tasks: [TASK_TEXT_TO_IMAGE, TASK_EDIT]",
        "only-edits": "tasks: TASK_EDIT",
    }
    for name, config in configs.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(f"backend: BACKEND_FAKE\n{config}\n")
    with serving(models) as server:
        for name in configs:
            server.until("model", model=f"{name}/1", state="ready")
        yield server


def file_of(colour: str, size: tuple[int, int] = (64, 64)) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, "PNG")
    return {"name": f"{colour}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


@pytest.fixture
def editing(page: playwright.Page) -> playwright.Page:
    page.select_option("#model", "models/klein")
    page.locator("#tasks label", has_text="Edit").click()
    return page


def choose(page: playwright.Page, *colours: str) -> None:
    page.set_input_files("#reference-files", [file_of(colour) for colour in colours])
    page.locator(".reference").nth(len(colours) - 1).wait_for()


def shade(page: playwright.Page) -> int:
    """The fake's grey less its seed and steps: i times the first byte of image i."""
    page.fill("#seed", "0")
    page.fill("#step_count", "1")
    page.fill("#prompt", "put them together")
    shown = page.locator(".result").count()
    page.press("#prompt", "Enter")
    page.locator(".result").nth(shown).wait_for()
    page.locator("#running").wait_for(state="hidden")
    (found,) = np.unique(np.asarray(downloaded(page)))
    return (int(found) - 1) % 256


def test_several_are_chosen_at_once_and_put_in_order(editing: playwright.Page) -> None:
    choose(editing, "red", "green", "blue")
    assert shade(editing) == (200 + 2 * 10 + 3 * 3) % 256
    editing.locator(".reference .later").first.click()
    editing.locator("#references-said", has_text="Image 1 is now image 2.").wait_for(
        state="attached"
    )
    assert shade(editing) == (10 + 2 * 200 + 3 * 3) % 256
    editing.locator(".reference").nth(2).drag_to(editing.locator(".reference").first)
    assert shade(editing) == (3 + 2 * 10 + 3 * 200) % 256
    editing.locator(".reference .away").nth(1).click()
    assert shade(editing) == (3 + 2 * 200) % 256


def test_the_order_is_chosen_by_the_keyboard_alone(editing: playwright.Page) -> None:
    choose(editing, "red", "green", "blue")
    editing.focus(".reference .later")
    editing.keyboard.press("Enter")
    editing.keyboard.press("Enter")
    # It is the last now: what is left to press is the way back.
    assert editing.evaluate("document.activeElement.className") == "earlier"
    assert shade(editing) == (10 + 2 * 3 + 3 * 200) % 256


def test_several_are_dropped_at_once(editing: playwright.Page) -> None:
    transfer = editing.evaluate_handle(
        """async (files) => {
            const transfer = new DataTransfer();
            for (const [name, bytes] of files)
                transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
            return transfer;
        }""",
        [[one["name"], list(one["buffer"])] for one in (file_of("green"), file_of("blue"))],
    )
    editing.dispatch_event("#references", "drop", {"dataTransfer": transfer})
    editing.locator(".reference").nth(1).wait_for()
    assert shade(editing) == 10 + 2 * 3


def test_no_more_are_kept_than_the_model_takes(editing: playwright.Page) -> None:
    choose(editing, *["red"] * 10)
    editing.set_input_files("#reference-files", [file_of("green")])
    assert "at most 10" in note(editing, "reference_images")
    assert editing.locator(".reference").count() == 10


def test_an_edit_without_an_image_is_none(page: playwright.Page) -> None:
    page.select_option("#model", "models/only-edits")
    page.fill("#prompt", "x")
    page.press("#prompt", "Enter")
    assert note(page, "reference_images") == "Choose an image first."


def test_a_file_that_is_no_image_is_told_of(editing: playwright.Page) -> None:
    bad = {"name": "bad.png", "mimeType": "image/png", "buffer": b"no image"}
    editing.set_input_files("#reference-files", [file_of("red"), bad])
    assert "left out" in note(editing, "reference_images")
    assert editing.locator(".reference").count() == 1


def test_a_model_without_edits_shows_none_of_it(page: playwright.Page) -> None:
    assert page.locator("#references").is_hidden()
    assert page.locator("#tasks label", has_text="Edit").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong(editing: playwright.Page, theme: str) -> None:
    editing.emulate_media(color_scheme=theme)
    choose(editing, "red", "green", "blue")
    shoot(editing, f"edit-{theme}")
    assert Axe().run(editing).response["violations"] == []


def test_it_all_fits_a_phone(browser: playwright.Browser, server: Server) -> None:
    pages = opened(browser, server, width=375, height=740, color_scheme="dark", has_touch=True)
    for page in pages:
        page.select_option("#model", "models/klein")
        page.locator("#tasks label", has_text="Edit").click()
        choose(page, "red", "green", "blue")
        shoot(page, "edit-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
