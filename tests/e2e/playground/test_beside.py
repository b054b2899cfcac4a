"""An image beside the one to change or to fill: a control image, or what is to be painted there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe

from bench.serving import Server, serving
from tests.e2e.playground.conftest import downloaded, note, opened, playwright, shoot
from tests.e2e.playground.test_edits import COLOURS, file_of

CONFIGS = {
    "tiny-sdxl": "tasks: TASK_TEXT_TO_IMAGE",
    "controlled": "tasks: [TASK_IMAGE_TO_IMAGE, TASK_FILL]\n"
    + "".join(f'parameters: "{name}"\n' for name in ("reference_images", "step_count", "seed")),
    "kontext": "tasks: [TASK_TEXT_TO_IMAGE, TASK_EDIT, TASK_FILL]",
    "fills": "tasks: TASK_FILL",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(f"backend: BACKEND_FAKE\n{config}\n")
    with serving(models) as server:
        for name in CONFIGS:
            server.until("model", model=f"{name}/1", state="ready")
        yield server


def begin(page: playwright.Page, model: str, task: str) -> None:
    page.select_option("#model", f"models/{model}")
    page.get_by_role("radio", name=task, exact=True).check()
    page.fill("#prompt", "a door")
    page.fill("#seed", "0")
    page.fill("#step_count", "1")


def give_image(page: playwright.Page) -> None:
    page.set_input_files("#image-file", [file_of("blue")])
    page.locator("#canvas-box").wait_for()


def give_beside(page: playwright.Page, colour: str) -> None:
    page.set_input_files("#reference-files", [file_of(colour)])
    page.locator(".reference").wait_for()


def run(page: playwright.Page) -> np.ndarray:
    shown = page.locator(".result").count()
    page.press("#prompt", "Enter")
    page.locator(".result").nth(shown).wait_for()
    page.locator("#running").wait_for(state="hidden")
    return np.asarray(downloaded(page))


def test_a_control_image_goes_beside_the_image_to_change(page: playwright.Page) -> None:
    begin(page, "controlled", "Image to image")
    assert "needs a second image" in page.locator("#references-hint").inner_text()
    give_image(page)
    page.press("#prompt", "Enter")
    assert note(page, "reference_images") == "Choose the image that goes beside it."
    shoot(page, "beside-lacking")
    give_beside(page, "red")
    # The fake adds the first byte of the second image, and a step, to each of the first.
    added = COLOURS["red"][0] + 1
    assert (run(page) == [(value + added) % 256 for value in COLOURS["blue"]]).all()


def test_a_fill_may_go_by_another_image_of_a_model_that_edits(page: playwright.Page) -> None:
    begin(page, "kontext", "Edit")
    page.set_input_files("#reference-files", [file_of(one) for one in ("red", "green", "blue")])
    page.locator(".reference").nth(2).wait_for()
    begin(page, "kontext", "Fill")
    assert "Not needed" in page.locator("#references-hint").inner_text()
    # Those of the edit are none of its own.
    assert page.locator(".reference").count() == 0
    give_image(page)
    page.click("#invert")
    page.get_by_text("Soft edge").click()
    assert (run(page) == 1).all()
    give_beside(page, "green")
    assert (run(page) == 1 + COLOURS["green"][0]).all()
    page.get_by_role("radio", name="Edit", exact=True).check()
    assert page.locator(".reference").count() == 3


def test_what_is_pasted_goes_where_there_is_no_image_yet(page: playwright.Page) -> None:
    begin(page, "controlled", "Image to image")
    for colour in ("blue", "red"):
        page.evaluate(
            """(bytes) => {
                const transfer = new DataTransfer();
                const made = new File([new Uint8Array(bytes)], "a.png", { type: "image/png" });
                transfer.items.add(made);
                document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
            }""",
            list(file_of(colour)["buffer"]),
        )
        page.locator("#canvas-box" if colour == "blue" else ".reference").wait_for()
    added = COLOURS["red"][0] + 1
    assert (run(page) == [(value + added) % 256 for value in COLOURS["blue"]]).all()


@pytest.mark.parametrize(
    ("model", "task", "is_shown"),
    [
        ("tiny-sdxl", "Text to image", False),
        ("fills", "Fill", False),
        ("kontext", "Text to image", False),
        ("kontext", "Fill", True),
        ("controlled", "Fill", True),
    ],
)
def test_only_models_that_take_one_show_the_field(
    page: playwright.Page, model: str, task: str, is_shown: bool
) -> None:
    begin(page, model, task)
    assert page.locator("#references").is_visible() is is_shown


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong(page: playwright.Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    begin(page, "controlled", "Fill")
    give_image(page)
    give_beside(page, "green")
    shoot(page, f"beside-{theme}")
    assert Axe().run(page).response["violations"] == []


def test_it_all_fits_a_phone(browser: playwright.Browser, server: Server) -> None:
    for page in opened(browser, server, width=375, height=740, color_scheme="dark", has_touch=True):
        begin(page, "controlled", "Fill")
        give_image(page)
        give_beside(page, "green")
        shoot(page, "beside-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
