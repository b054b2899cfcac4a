"""The first picture, what is kept of results, and which requests shared a step."""

from __future__ import annotations

import re

from axe_playwright_python.sync_playwright import Axe

from tests.e2e.playground.conftest import generate, note, playwright, shoot


def test_enter_alone_makes_the_first_picture(page: playwright.Page) -> None:
    page.reload()
    page.locator("#tasks label").first.wait_for()
    # It opens on the server's default, which is not the first by name, on an example of what that
    # draws, and in the field.
    assert page.input_value("#model") == "models/tiny-sdxl"
    assert page.locator("#tasks :checked").get_attribute("value") == "TASK_TEXT_TO_IMAGE"
    assert page.evaluate("document.activeElement.id") == "prompt"
    example = page.input_value("#prompt")
    assert example == page.locator("#examples button").first.inner_text()
    page.keyboard.press("Enter")
    page.locator(".result").wait_for()
    assert example in page.locator(".result").inner_text()


def test_examples_are_the_models_own(page: playwright.Page) -> None:
    page.select_option("#model", "models/slow")
    assert page.locator("#examples button").all_inner_texts() == ["a red circle"]
    page.fill("#prompt", "mine")
    page.select_option("#model", "models/tiny-sdxl")
    assert page.input_value("#prompt") == "mine"
    page.locator("#examples button").nth(1).click()
    assert page.input_value("#prompt") == page.locator("#examples button").nth(1).inner_text()


def test_words_that_a_model_does_not_know_are_shown_at_the_prompt(page: playwright.Page) -> None:
    page.select_option("#model", "models/slow")
    page.fill("#step_count", "1")
    generate(page, "a red quokka", "7")
    assert "quokka" in note(page, "prompt")
    assert "Drawn without quokka" in page.locator(".result").inner_text()
    page.fill("#prompt", "a red circle")
    page.locator("#note-prompt").wait_for(state="detached")


def test_while_it_is_made_no_empty_square_is_shown(page: playwright.Page) -> None:
    page.select_option("#model", "models/slow")
    page.fill("#step_count", "300")
    page.press("#prompt", "Enter")
    page.get_by_text(re.compile(r"denoising, step \d+ of 300")).wait_for()
    assert page.locator("#running img").is_hidden()
    assert page.locator("#empty").is_hidden()
    page.get_by_role("button", name="Stop request A").click()
    page.get_by_text("Cancelled.").wait_for()
    assert page.locator("#running").is_hidden()


def test_requests_that_share_steps_are_shown_in_the_same_columns(page: playwright.Page) -> None:
    page.select_option("#model", "models/slow")
    page.fill("#step_count", "100")
    for prompt in ("a red circle", "a circle"):
        page.fill("#prompt", prompt)
        page.press("#prompt", "Enter")
    page.locator("#lanes-text", has_text="The last step computed 2 images together").wait_for()
    # In one column both have a cell.
    shared = page.evaluate(
        """() => {
          const rows = [...document.querySelectorAll("#lanes tr")].slice(0, 2);
          const [first, second] = rows.map((row) => [...row.querySelectorAll("td")]);
          const isTogether = (cell) => cell.classList.contains("together");
          return first.filter((cell, i) => isTogether(cell) && isTogether(second[i])).length;
        }"""
    )
    assert shared > 0
    shoot(page, "shared-steps")
    page.click("#cancel")
    page.locator("#running").wait_for(state="hidden")
    assert Axe().run(page).violations_count == 0


def test_results_outlive_the_page_until_they_are_forgotten(page: playwright.Page) -> None:
    page.select_option("#model", "models/slow")
    page.fill("#step_count", "1")
    generate(page, "a red circle", "41")
    generate(page, "a circle", "42")
    page.reload()
    page.locator(".result").nth(1).wait_for()
    seeds = [
        re.findall(r"seed (\d+)", one.inner_text())[0] for one in page.locator(".result").all()
    ]
    assert seeds == ["42", "41"]
    page.locator(".result").first.get_by_role("button", name="Use seed").click()
    assert page.input_value("#seed") == "42"
    page.click("#forget")
    page.locator("#empty").wait_for()
    page.reload()
    page.locator("#empty").wait_for()
    assert page.locator(".result").count() == 0


def test_results_are_compared_side_by_side_by_the_keyboard_alone(page: playwright.Page) -> None:
    page.select_option("#model", "models/slow")
    page.fill("#step_count", "1")
    for seed in ("41", "42"):
        generate(page, "a red circle", seed)
    assert page.locator("#compare-bar").is_hidden()
    for i in (0, 1):
        button = page.locator(".result").nth(i).get_by_role("button", name="Compare")
        button.focus()
        page.keyboard.press("Space")
        assert button.get_attribute("aria-pressed") == "true"
    page.focus("#compare")
    page.keyboard.press("Enter")
    page.locator("#viewer").wait_for()
    # What sets them apart is marked; what they have in common is not.
    own = page.locator("#panes .own").all_inner_texts()
    assert {"seed 41", "seed 42"} <= set(own)
    assert "1 steps" not in own
    width = page.locator("#panes img").first.get_attribute("width")
    page.get_by_role("radio", name="4×").check(force=True)
    assert page.locator("#panes img").first.evaluate("image => image.width") == 4 * int(width or 0)
    assert Axe().run(page).violations_count == 0
    shoot(page, "compared")
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    # The picture itself opens it too.
    page.locator(".picture").first.focus()
    page.keyboard.press("Enter")
    page.locator("#viewer").wait_for()
    assert page.locator("#panes figure").count() == 1
