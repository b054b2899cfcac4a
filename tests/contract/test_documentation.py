"""What the documentation says about the code is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkroom_server.cli.main import COMMANDS
from darkroom_server.config import ServerConfig
from darkroom_server.domain.notices import NoticeReason
from darkroom_server.telemetry.metric_list import METRICS
from darkroom_server.wire.status import ERROR_KINDS, ErrorKind
from docs import reference

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))
    if page.is_file()
)


def _read(name: str) -> str:
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("name", reference.pages())
def test_generated_pages_are_as_the_code_says(name: str) -> None:
    assert _read(name) == reference.pages()[name], "run `make reference`"


@pytest.mark.parametrize("name", ServerConfig.model_fields)
def test_every_setting_is_in_the_list(name: str) -> None:
    assert _read("settings.md").count(f"\n| `{name}` |") == 1


@pytest.mark.parametrize("kind", ERROR_KINDS.values(), ids=lambda kind: kind.reason)
def test_every_reason_is_documented_with_its_statuses(kind: ErrorKind) -> None:
    [row] = [row for row in _read("errors.md").splitlines() if f"`{kind.reason}`" in row]
    code, http_status = (cell.strip() for cell in row.split("|")[2:4])
    assert (code, http_status) == (kind.code.name, str(kind.http_status))


@pytest.mark.parametrize("reason", NoticeReason, ids=lambda reason: reason.value)
def test_every_warning_is_documented(reason: NoticeReason) -> None:
    assert f"`{reason.value}`" in _read("requests.md")


def test_no_metric_is_documented_that_is_not_listed() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", _read("metrics.md"), flags=re.MULTILINE)
    assert rows == [metric.name for metric in METRICS]


def test_every_command_is_in_the_readme_or_the_guides() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in COMMANDS if f"darkroom {name}" not in text] == []
