"""What the README claims can be looked up: links lead there, figures are those of the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PERFORMANCE = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).strip().replace(" ", "-") for each in headings}


def test_every_link_leads_to_a_file_and_its_heading() -> None:
    links = {each for each in re.findall(r"\]\(([^)]+)\)", README) if "://" not in each}
    assert len(links) > 50
    lost = set()
    for link in links:
        path, _, heading = link.partition("#")
        page = REPOSITORY / path
        if not page.exists() or (heading and heading not in anchors(page)):
            lost.add(link)
    assert lost == set()


@pytest.mark.parametrize(
    ("said", "measured"),
    [
        pytest.param(
            r"([\d.]+) unsaturated, [\d.]+ saturated",
            r"W-mix, unsaturated, ours / B2, 90% within 5x \|[^|]*\| ([\d.]+) ",
            id="unsaturated",
        ),
        pytest.param(
            r"[\d.]+ unsaturated, ([\d.]+) saturated",
            r"W-mix, saturated, ours / B2, 90% within 5x \|[^|]*\| ([\d.]+) ",
            id="saturated",
        ),
        pytest.param(
            r"\n([\d.]+) times the pipeline's own time",
            r"idle latency at 256 px, ours / bare diffusers \|[^|]*\| ([\d.]+) ",
            id="overhead",
        ),
        pytest.param(
            r"a step \| ([\d]+) ms \(2 rows", r"SDXL, 1024 px, eager \| \d+ \| (\d+)", id="gpu"
        ),
    ],
)
def test_figures_are_those_of_the_page_on_performance(said: str, measured: str) -> None:
    here, there = re.search(said, README), re.search(measured, PERFORMANCE)
    assert here is not None
    assert there is not None
    assert here[1] == there[1]
