"""The playground of a server that asks for keys."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from bench.serving import Server, serving
from tests.e2e.playground.conftest import WAIT_MS, generate, shoot

playwright = pytest.importorskip("playwright.sync_api")

Create = Callable[..., str]
Open = Callable[..., playwright.Page]


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.toml"


def created(keys_file: Path, name: str, *limits: str) -> str:
    command = [str(Path(sys.executable).with_name("darkroom")), "keys", "create", name]
    command += ["--keys-file", str(keys_file), *limits]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def guarded(keys_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = tmp_path_factory.mktemp("models")
    for name, step in (("quick", ""), ("slow", "fake { step_s: 0.1 }")):
        (models / name / "1").mkdir(parents=True)
        text = f"backend: BACKEND_FAKE\ntasks: TASK_TEXT_TO_IMAGE\n{step}\n"
        (models / name / "config.pbtxt").write_text(text)
    created(keys_file, "the first")
    with serving(models, "--keys-file", str(keys_file)) as server:
        for name in ("quick", "slow"):
            server.until("model", model=f"{name}/1", state="ready")
        yield server


@pytest.fixture
def create(guarded: Server, keys_file: Path) -> Create:
    """Makes a key that the server knows."""

    def create(name: str, *limits: str) -> str:
        mark = len(guarded.log)
        made = created(keys_file, name, *limits)
        guarded.until("keys read", after=mark)
        return made

    return create


@pytest.fixture
def opened(browser: playwright.Browser, guarded: Server) -> Iterator[Open]:
    """Opens the page in a tab of its own; afterwards, no script failed in any."""
    base = f"http://127.0.0.1:{guarded.until('listening')['http_port']}"
    contexts, failures = [], []

    def opened(*, width: int = 1280, height: int = 900, scheme: str = "light") -> playwright.Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(base)
        page.locator("#key-form").wait_for()
        return page

    yield opened
    assert failures == []
    for context in contexts:
        context.close()


def enter(page: playwright.Page, key: str) -> None:
    page.fill("#key-input", key)
    page.press("#key-input", "Enter")
    page.locator("#standing").wait_for()
    page.locator("#tasks label").first.wait_for()
    page.select_option("#model", "models/quick")
    size(page, 20)


def size(page: playwright.Page, step_count: int) -> None:
    """What the form asks for: so many steps take 0.0655 credits each."""
    for field, value in (("width_px", 256), ("height_px", 256), ("step_count", step_count)):
        page.fill(f"#{field}", str(value))


def standing(page: playwright.Page, pattern: str) -> None:
    page.locator("#standing-text", has_text=re.compile(pattern)).wait_for()


def test_a_key_is_asked_for_and_what_is_left_of_it_is_shown(opened: Open, create: Create) -> None:
    key = create("the web team", "--credits", "10", "--rate-limit", "5/hour")
    page = opened()
    assert page.evaluate("document.activeElement.id") == "key-input"
    assert page.locator("#prompt").is_hidden()
    shoot(page, "key-asked")
    assert Axe().run(page).violations_count == 0
    enter(page, key)
    standing(page, r"^the web team · 10 credits left · 5 of 5 requests left$")
    generate(page, "a house", "7")
    standing(page, r"8\.69 credits left · 4 of 5 requests left$")
    shoot(page, "key-standing")
    assert Axe().run(page).violations_count == 0
    page.emulate_media(color_scheme="dark")
    shoot(page, "key-standing-dark")


def test_a_key_is_kept_for_the_tab_and_nowhere_else(opened: Open, create: Create) -> None:
    key = create("one tab")
    page = opened()
    enter(page, key)
    page.reload()
    standing(page, "^one tab$")
    stores = "JSON.stringify([Object.entries(localStorage), document.cookie, location.href])"
    assert key not in page.evaluate(stores)
    assert key not in page.content()
    page.locator("#snippets summary").click()
    for language in ("cURL", "Python", "JavaScript", "grpcurl"):
        page.get_by_role("radio", name=language, exact=True).check(force=True)
        text = page.locator("#snippet").inner_text()
        assert key not in text
        assert "DARKROOM_API_KEY" in text
    opened()
    page.click("#forget-key")
    page.locator("#key-form").wait_for()
    page.reload()
    page.locator("#key-form").wait_for()


@pytest.mark.parametrize("wrong", ["dk_no_such", "ключ"])
def test_a_wrong_key_is_told_in_words_and_asked_for_again(opened: Open, wrong: str) -> None:
    page = opened()
    page.fill("#key-input", wrong)
    page.press("#key-input", "Enter")
    page.locator("#error", has_text="no key of this service").wait_for()
    assert page.locator("#key-form").is_visible()
    shoot(page, "key-wrong")


def test_too_many_requests_are_told_when_to_come_again(opened: Open, create: Create) -> None:
    page = opened()
    enter(page, create("hasty", "--rate-limit", "1/hour"))
    generate(page, "a house", "7")
    page.press("#prompt", "Enter")
    page.locator(
        "#error", has_text=re.compile(r"1 request in 1 hour.*Try again in 60 m")
    ).wait_for()
    shoot(page, "key-limited")


def test_too_few_credits_are_told_with_what_would_help(opened: Open, create: Create) -> None:
    page = opened()
    enter(page, create("poor", "--credits", "1"))
    page.fill("#prompt", "a house")
    page.press("#prompt", "Enter")
    page.locator("#error", has_text=re.compile(r"1 are left.*Fewer steps")).wait_for()
    standing(page, "1 credits left")


def test_what_a_cancelled_request_did_not_use_comes_back(opened: Open, create: Create) -> None:
    page = opened()
    enter(page, create("undecided", "--credits", "100"))
    page.select_option("#model", "models/slow")
    size(page, 50)
    page.fill("#prompt", "anything")
    page.press("#prompt", "Enter")
    page.get_by_text(re.compile(r"denoising, step \d+ of 50")).wait_for()
    page.click("#cancel")
    page.get_by_text("Cancelled.").wait_for()
    standing(page, r"^undecided · 9[89]\.\d+ credits left$")


def test_it_all_fits_a_phone(opened: Open, create: Create) -> None:
    page = opened(width=375, height=740, scheme="dark")
    shoot(page, "key-asked-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    enter(
        page,
        create(
            "a rather long name of somebody's team", "--credits", "100", "--rate-limit", "60/minute"
        ),
    )
    generate(page, "a house", "7")
    shoot(page, "key-standing-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
