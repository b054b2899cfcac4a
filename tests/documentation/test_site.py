"""The documentation builds as a site without a warning, and it needs nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation.reader import REPOSITORY

#: What a browser fetches by itself; links that a reader may follow are another matter.
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b(?![^>]*rel=["']?canonical)[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|(?:@import|url\()\s*["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        (Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", folder),
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    docs = REPOSITORY / "docs"
    pages = [page.relative_to(docs).with_suffix(".html") for page in docs.rglob("*.md")]
    assert len(pages) > 30
    assert [page for page in pages if not (site / page).is_file()] == []


def test_files_of_the_repository_that_pages_link_to_are_in_it(site: Path) -> None:
    assert (site / "repository" / "clients" / "go" / "index.html").is_file()
    proto = site / "repository" / "protos" / "darkroom" / "v1" / "image_service.proto.html"
    assert "rpc" in proto.read_text()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    files = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(files) > 30
    found = {
        file.relative_to(site): match[0]
        for file in files
        if (match := FETCHED.search(file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://example.com/a.js">',
        "<img alt=x src=//example.com/a.png>",
        '<link rel="stylesheet" href="https://example.com/a.css">',
        "@import 'https://example.com/a.css'",
        "url(https://example.com/a.woff2)",
    ],
)
def test_what_would_be_fetched_is_found(text: str) -> None:
    assert FETCHED.search(text)
