"""Making images in the playground: what a person sees who clicks and types."""

from __future__ import annotations

import re

import numpy as np

from bench.serving import Server
from tests.e2e.playground.conftest import downloaded, generate, note, playwright, shoot


def test_page_1_row_12_enter_generates_and_the_gallery_tells_what_made_the_image(
    page: playwright.Page,
) -> None:
    generate(page, "a red circle on a blue background", "18446744073709")
    said = page.locator(".result").first.inner_text()
    assert "a red circle on a blue background" in said
    for fact in ("seed 18446744073709", "192×192", "20 steps", "guidance 2", "EulerDiscrete"):
        assert fact in said
    first = downloaded(page)
    assert first.size == (192, 192)
    shoot(page, "generated")
    page.fill("#seed", "")
    page.click("#reuse")
    generate(page, "a red circle on a blue background", page.input_value("#seed"))
    assert downloaded(page).tobytes() == first.tobytes()


def test_page_1_row_12_a_drawn_mask_is_repainted_and_the_rest_stays(page: playwright.Page) -> None:
    generate(page, "a red circle on a blue background", "7")
    before = np.asarray(downloaded(page)).astype(int)
    page.get_by_role("button", name="Use as input").first.click()
    canvas = page.locator("#mask")
    canvas.wait_for()
    page.fill("#brush", "100")
    page.locator("#image-shown").scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=5)
    page.mouse.up()
    shoot(page, "mask")
    generate(page, "a yellow star on a blue background", "7")
    after = np.asarray(downloaded(page)).astype(int)
    shoot(page, "filled")
    change = np.abs(after - before).mean(axis=2)
    assert change[72:120, 72:120].mean() > 10
    assert not change[:24].any()
    page.get_by_role("radio", name="Soft edge").check(force=True)
    assert "all change a little" in page.locator("#edge-hint").inner_text()
    generate(page, "a yellow star on a blue background", "7")
    loose = np.asarray(downloaded(page)).astype(int)
    assert np.abs(loose - before)[:24].any()


def test_undo_and_invert_change_the_mask(page: playwright.Page) -> None:
    generate(page, "a house", "7")
    page.get_by_role("button", name="Use as input").first.click()
    page.locator("#mask").click()
    painted = (
        "document.querySelector('#mask').getContext('2d').getImageData(0, 0, 192, 192)"
        ".data.filter((value, i) => i % 4 === 3 && value > 127).length"
    )
    drawn = page.evaluate(painted)
    page.click("#invert")
    inverted = page.evaluate(painted)
    assert 0 < drawn < 192 * 192 // 2
    assert drawn + inverted == 192 * 192
    page.click("#undo")
    page.click("#undo")
    assert page.evaluate(painted) == 0
    page.click("#run")
    assert "the mask is empty" in note(page, "mask")
    page.locator("#mask").click()
    page.locator("#note-mask").wait_for(state="detached")


def test_cancelling_stops_the_work_on_the_server(page: playwright.Page, server: Server) -> None:
    page.select_option("#model", "models/slow")
    assert page.locator("#guidance_scale").is_hidden()
    page.fill("#step_count", "400")
    page.fill("#prompt", "anything")
    mark = len(server.log)
    page.press("#prompt", "Enter")
    page.get_by_text(re.compile(r"denoising, step \d+ of 400")).wait_for()
    shoot(page, "running")
    page.click("#cancel")
    page.get_by_text("Cancelled.").wait_for()
    assert server.until("job stopped", after=mark)["completed_step_count"] < 400


def test_page_1_row_12_an_error_is_told_in_words_and_the_field_is_shown(
    page: playwright.Page,
) -> None:
    page.eval_on_selector("#width_px", "input => input.max = ''")
    page.fill("#width_px", "4992")
    page.fill("#prompt", "a house")
    page.press("#prompt", "Enter")
    assert "4992" in note(page, "width_px")
    assert page.evaluate("document.activeElement.id") == "width_px"
    assert page.get_attribute("#width_px", "aria-invalid") == "true"
    assert page.locator("#error").is_hidden()
    shoot(page, "error")
    page.fill("#width_px", "256")
    page.locator("#note-width_px").wait_for(state="detached")
    assert page.get_attribute("#width_px", "aria-invalid") is None


def test_the_snippets_are_the_request_as_it_stands(page: playwright.Page) -> None:
    page.fill("#prompt", "a house's roof")
    page.locator("#snippets summary").click()
    for language in ("cURL", "Python", "JavaScript", "grpcurl"):
        page.get_by_role("radio", name=language, exact=True).click()
        text = page.locator("#snippet").inner_text()
        assert "models/tiny-sdxl" in text
        assert "roof" in text
    page.fill("#step_count", "33")
    assert '"stepCount":33' in page.locator("#snippet").inner_text()
    shoot(page, "snippets")


def test_a_phone_shows_it_all_without_scrolling_sideways(phone: playwright.Page) -> None:
    generate(phone, "a green star", "7")
    width = phone.evaluate("document.documentElement.scrollWidth")
    assert width <= 375
    shoot(phone, "phone")
