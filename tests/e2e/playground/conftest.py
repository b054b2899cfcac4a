"""The playground in a real browser, on an embedded model and a slow fake one."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from bench.serving import Server, serving

playwright = pytest.importorskip("playwright.sync_api")

REPOSITORY = Path(__file__).parents[3]
#: Far more than it takes on a machine that does nothing else.
WAIT_MS = 600_000
#: Where screenshots are kept, for people to look at; nowhere unless it is set.
SHOTS = os.environ.get("PLAYGROUND_SHOTS")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    embedded = REPOSITORY / "model_repo" / "tiny-sdxl"
    shutil.copytree(embedded, models / embedded.name, ignore=shutil.ignore_patterns("adapters"))
    (models / "slow" / "1").mkdir(parents=True)
    (models / "slow" / "config.pbtxt").write_text(
        "backend: BACKEND_FAKE\ntasks: TASK_TEXT_TO_IMAGE\n"
        'parameters: "step_count" parameters: "seed"\nfake { step_s: 0.1 }\n'
        "limits { max_step_count: 500 }\n"
        'vocabulary { words: ["a", "red", "circle"] example_prompts: "a red circle" }\n'
    )
    with serving(models, "--worker-thread-count", "1", "--default-model", "tiny-sdxl") as server:
        server.until_ready("tiny-sdxl", "slow")
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as engine:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
        if found is None and not Path(engine.chromium.executable_path).exists():
            pytest.skip("no Chromium here; `make browser` installs one")
        browser = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: playwright.Browser, server: Server) -> Iterator[playwright.Page]:
    yield from opened(browser, server, width=1280, height=900)


@pytest.fixture
def phone(browser: playwright.Browser, server: Server) -> Iterator[playwright.Page]:
    yield from opened(browser, server, width=375, height=740, color_scheme="dark", has_touch=True)


def opened(
    browser: playwright.Browser,
    server: Server,
    *,
    width: int,
    height: int,
    color_scheme: str = "light",
    has_touch: bool = False,
) -> Iterator[playwright.Page]:
    """The page, loaded; afterwards, no script failed and no other host was asked for anything."""
    base = f"http://127.0.0.1:{server.until('listening')['http_port']}"
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=color_scheme,
        has_touch=has_touch,
        permissions=["clipboard-read", "clipboard-write"],
    )
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    failures: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(base)
    page.locator("#tasks label").first.wait_for()
    page.select_option("#model", "models/tiny-sdxl")
    yield page
    assert failures == []
    assert [url for url in asked if not url.startswith((base, "blob:", "data:"))] == []
    context.close()


def shoot(page: playwright.Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def generate(page: playwright.Page, prompt: str, seed: str) -> None:
    shown = page.locator(".result").count()
    page.fill("#seed", seed)
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    page.locator(".result").nth(shown).wait_for()
    page.locator("#running").wait_for(state="hidden")


def note(page: playwright.Page, field: str) -> str:
    """What is said at a field, once it is said."""
    page.locator(f"#note-{field}").wait_for()
    said: str = page.locator(f"#note-{field}").inner_text()
    return said


def downloaded(page: playwright.Page) -> Image.Image:
    with page.expect_download() as download:
        page.locator(".result a").first.click()
    return Image.open(io.BytesIO(Path(download.value.path()).read_bytes())).convert("RGB")
