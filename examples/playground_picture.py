"""Draws docs/pictures/playground.png, the page after some pictures: `make playground-picture`.

Needs Chromium: `make browser` installs one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from bench.serving import serving

REPOSITORY = Path(__file__).parents[1]
PICTURE = REPOSITORY / "docs" / "pictures" / "playground.png"
MODEL = "tiny-sdxl"
PROMPTS = ("a dog on a yellow background", "two pizzas on a blue background", "an astronaut")
FILL_PROMPT = "a cat on a yellow background"
SEED = 7
WIDTH_PX, HEIGHT_PX = 1440, 1010
WAIT_MS = 600_000


def main() -> None:
    """Serves the embedded model, uses its page as a person does, and writes the picture."""
    flags = ("--default-model", MODEL)
    with serving(REPOSITORY / "model_repo", *flags) as server, sync_playwright() as engine:
        server.until_ready(MODEL)
        installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
        browser = engine.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": HEIGHT_PX})
        page.set_default_timeout(WAIT_MS)
        page.goto(f"http://127.0.0.1:{server.until('listening')['http_port']}")
        page.locator("#tasks label").first.wait_for()
        use(page)
        page.screenshot(path=str(PICTURE))
        browser.close()
    print(f"wrote {PICTURE.relative_to(REPOSITORY)}")


def use(page: Page) -> None:
    """Three prompts at the same time, then one of the pictures with its middle painted over."""
    page.fill("#seed", str(SEED))
    for prompt in PROMPTS:
        page.fill("#prompt", prompt)
        page.press("#prompt", "Enter")
    page.locator(".result").nth(len(PROMPTS) - 1).wait_for()
    dog = page.locator(".result", has_text=PROMPTS[0])
    dog.get_by_role("button", name="Use as input").click()
    canvas = page.locator("#mask")
    canvas.wait_for()
    page.fill("#brush", "100")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None, "the mask is not on the page"
    for row in (0.25, 0.4, 0.55, 0.7):
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * row)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * row, steps=9)
        page.mouse.up()
    page.fill("#prompt", FILL_PROMPT)
    page.press("#prompt", "Enter")
    page.locator(".result").nth(len(PROMPTS)).wait_for()
    page.locator("#running").wait_for(state="hidden")
    canvas.scroll_into_view_if_needed()


if __name__ == "__main__":
    main()
