"""Ways into the playground, keyboard alone, touch and files, and the code that comes out of it."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

from bench.serving import Server
from tests.e2e.playground.conftest import downloaded, generate, note, playwright, shoot

BUF = Path(sys.executable).with_name("buf")
#: How many pixels of the mask are painted.
PAINTED = """(() => {
  const mask = document.querySelector("#mask");
  const { data } = mask.getContext("2d").getImageData(0, 0, mask.width, mask.height);
  return data.filter((value, i) => i % 4 === 3 && value > 127).length;
})()"""


def file_of(picture: Image.Image, name: str) -> dict[str, object]:
    """A file as it is chosen in a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": buffer.getvalue()}


def scene() -> Image.Image:
    picture = Image.new("RGB", (256, 256), (40, 90, 220))
    picture.paste((220, 40, 40), (96, 96, 160, 160))
    return picture


def begin_fill(page: playwright.Page) -> None:
    """The task with an image and an empty mask."""
    page.get_by_role("radio", name="Fill", exact=True).check()
    page.set_input_files("#image-file", file_of(scene(), "scene.png"))
    page.locator("#mask").wait_for()


def focused(page: playwright.Page) -> str:
    """Id, value or text of what has the focus."""
    found: str = page.evaluate(
        "(({ id, value, innerText }) => id || value || innerText)(document.activeElement)"
    )
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong(page: playwright.Page, theme: str) -> None:
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    generate(page, "a red circle on a blue background", "7")
    page.locator("#snippets summary").click()
    begin_fill(page)
    page.click("#run")
    page.locator("#note-mask").wait_for()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    shoot(page, f"all-{theme}")


def test_tab_goes_through_the_page_in_its_order(page: playwright.Page) -> None:
    page.focus("#model")
    examples = page.locator("#examples button").all_inner_texts()
    assert len(examples) > 1
    wanted = [
        *("TASK_TEXT_TO_IMAGE", "prompt", *examples, "negative_prompt"),
        *("width_px", "height_px", "step_count", "guidance_scale"),
        *("image_count", "format", "scheduler", "seed", "shuffle", "This request as code"),
    ]
    order = []
    for _ in wanted:
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == wanted


def test_a_fill_by_the_keyboard_alone(page: playwright.Page) -> None:
    page.focus("#tasks input")
    page.keyboard.press("ArrowRight")
    assert page.locator("#tasks :checked").get_attribute("value") == "TASK_FILL"
    # Choosing a file is the browser's own dialogue.
    page.set_input_files("#image-file", file_of(scene(), "scene.png"))
    page.locator("#mask").wait_for()
    page.focus("#image-file")
    page.keyboard.press("Tab")
    assert focused(page) == "mask"
    assert page.locator("#brush-ring").is_visible()
    page.keyboard.press("Space")
    dot = page.evaluate(PAINTED)
    page.keyboard.press("]")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Space")
    assert page.evaluate(PAINTED) > 2 * dot > 0
    shoot(page, "keyboard")
    for _ in range(3):
        page.keyboard.press("Control+z")
    assert page.evaluate(PAINTED) == dot
    page.fill("#step_count", "2")
    page.fill("#prompt", "a yellow star")
    page.press("#prompt", "Enter")
    page.locator(".result").wait_for()


def test_a_finger_draws(phone: playwright.Page) -> None:
    begin_fill(phone)
    phone.locator("#mask").scroll_into_view_if_needed()
    phone.locator("#mask").tap()
    assert phone.evaluate(PAINTED) > 0
    shoot(phone, "phone-mask")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 375


def test_an_uploaded_mask_is_painted_where_it_is_white(page: playwright.Page) -> None:
    begin_fill(page)
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (0, 0, 64, 128))
    page.set_input_files("#mask-file", file_of(mask, "mask.png"))
    page.wait_for_function(f"Math.abs({PAINTED} - {256 * 128}) < {0.02 * 256 * 128}")


@pytest.mark.parametrize("field", ["image-file", "mask-file"])
def test_a_file_that_is_no_image_is_told_of(page: playwright.Page, field: str) -> None:
    begin_fill(page)
    bad = {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"}
    page.set_input_files(f"#{field}", bad)
    assert "no image" in note(page, field.removesuffix("-file"))


def test_an_image_may_be_dropped(page: playwright.Page) -> None:
    page.get_by_role("radio", name="Fill", exact=True).check()
    page.evaluate(
        """async () => {
          const canvas = new OffscreenCanvas(64, 48);
          canvas.getContext("2d");
          const transfer = new DataTransfer();
          const content = await canvas.convertToBlob();
          transfer.items.add(new File([content], "a.png", { type: "image/png" }));
          const drop = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
          document.querySelector("#source").dispatchEvent(drop);
        }"""
    )
    page.locator("#mask").wait_for()
    assert page.evaluate("document.querySelector('#mask').width") == 64


def test_seeds_are_taken_again_and_shuffled(page: playwright.Page) -> None:
    page.fill("#step_count", "1")
    assert page.locator("#reuse").is_disabled()
    generate(page, "a house", "")
    page.click("#reuse")
    chosen = page.input_value("#seed")
    assert f"seed {chosen}" in page.locator(".result").first.inner_text()
    page.click("#shuffle")
    assert page.input_value("#seed") == ""
    page.locator(".result").get_by_role("button", name="Use seed").click()
    assert page.input_value("#seed") == chosen


def test_count_format_and_scheduler_are_those_of_the_form(page: playwright.Page) -> None:
    page.fill("#step_count", "2")
    page.fill("#image_count", "2")
    page.select_option("#format", "OUTPUT_FORMAT_JPEG")
    page.select_option("#scheduler", "DDIMScheduler")
    generate(page, "a house", "5")
    page.locator(".result").nth(1).wait_for()
    said = [one.inner_text() for one in page.locator(".result").all()]
    assert ["seed 6" in said[0], "seed 5" in said[1]] == [True, True]
    assert all("DDIM" in one for one in said)
    with page.expect_download() as download:
        page.locator(".result a").first.click()
    assert download.value.suggested_filename == "darkroom-6.jpeg"
    assert Image.open(download.value.path()).format == "JPEG"


def snippet(page: playwright.Page, language: str) -> str:
    """The code as Copy gives it."""
    if not page.locator("#snippet").is_visible():
        page.locator("#snippets summary").click()
    page.get_by_role("radio", name=language, exact=True).check()
    page.click("#copy")
    page.get_by_text("Copied").wait_for()
    copied: str = page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Copy", exact=True).wait_for()
    return copied


@pytest.fixture
def asking(page: playwright.Page) -> playwright.Page:
    page.fill("#prompt", 'a house\'s roof, "red"\non a hill')
    page.fill("#step_count", "2")
    page.fill("#seed", "7")
    return page


def test_the_curl_that_is_copied_runs(asking: playwright.Page) -> None:
    command = ["sh", "-c", snippet(asking, "cURL")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "event: image" in done.stdout


def test_the_python_that_is_copied_runs(asking: playwright.Page, tmp_path: Path) -> None:
    command = [sys.executable, "-c", snippet(asking, "Python")]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert Image.open(tmp_path / "image-0.png").size == (192, 192)


def test_the_javascript_that_is_copied_runs(asking: playwright.Page) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node here")
    command = ["node", "--input-type=module", "-e", snippet(asking, "JavaScript")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "data:image/png;base64," in done.stdout


def test_the_grpcurl_that_is_copied_calls_the_port_of_grpc(
    asking: playwright.Page, server: Server
) -> None:
    text = snippet(asking, "grpcurl").replace("\\\n", "")
    program, flag, option, body, address, method = shlex.split(text)
    assert (program, flag, option) == ("grpcurl", "-plaintext", "-d")
    assert address == server.address
    # The same call by a program that the tests have.
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", body]
    done = subprocess.run([*command, f"http://{address}/{method}"], capture_output=True, text=True)
    assert '"completed"' in done.stdout, done.stderr


def test_the_page_is_held_to_its_host(server: Server) -> None:
    url = f"http://127.0.0.1:{server.until('listening')['http_port']}"
    for path in ("/", "/playground/playground.js", "/playground/playground.css"):
        policy = httpx.get(url + path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        assert not re.search(r"https?:|\*|unsafe", policy)


def test_the_result_goes_on_as_input(page: playwright.Page) -> None:
    page.fill("#step_count", "2")
    generate(page, "a house", "5")
    page.get_by_role("button", name="Use as input").click()
    page.locator("#mask").wait_for()
    assert downloaded(page).size == (192, 192)
    assert page.evaluate("document.querySelector('#mask').width") == 192


def test_a_page_may_call_the_rpcs(page: playwright.Page) -> None:
    names = page.evaluate(
        """async () => {
          const answer = await fetch("/darkroom.v1.ModelService/ListModels", {
            method: "POST",
            headers: { "content-type": "application/json", "connect-protocol-version": "1" },
            body: "{}",
          });
          return (await answer.json()).models.map((model) => model.name);
        }"""
    )
    assert set(names) == {"models/tiny-sdxl", "models/slow"}
