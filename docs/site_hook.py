"""A hook of MkDocs: files that pages link to are part of the site, and the nav has stars.

A page in docs/ links to `../protos/…`, as it should on any view of the repository. In the site
such a file becomes a page below `repository/`: Markdown as it is, pictures too, anything else as a
block of code.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[1]
PREFIX = "repository/"
#: Endings of files that are shown as they are.
PICTURES = (".jpg", ".png")
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
#: What a block of code is marked as, where it is not the file's ending.
LANGUAGES = {"proto": "protobuf", "cc": "cpp", "h": "cpp", "py": "python", "rb": "ruby"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts pages in the place of the stars of the nav."""
    docs = Path(config.docs_dir)
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))
    named = set(_leaves(config.nav))
    config.nav = _expanded(config.nav, [page for page in pages if page not in named])
    return config


def _leaves(nav: Any) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from _leaves(entry)
        case dict():
            yield from _leaves(list(nav.values()))


def _expanded(nav: list[Any], pages: list[str]) -> list[Any]:
    made: list[Any] = []
    for entry in nav:
        match entry:
            case str() if "*" in entry:
                folder, pattern = posixpath.split(entry)
                made += [
                    page
                    for page in pages
                    if posixpath.dirname(page) == folder
                    and fnmatch(posixpath.basename(page), pattern)
                ]
            case dict():
                made.append({title: _inside(inside, pages) for title, inside in entry.items()})
            case _:
                made.append(entry)
    return made


def _inside(entry: Any, pages: list[str]) -> Any:
    return _expanded(entry, pages) if isinstance(entry, list) else entry


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the files that pages link to, and those that these link to."""
    waiting = [file for file in files if file.src_uri.endswith(".md")]
    while waiting:
        page = waiting.pop()
        for target in _targets(page.content_string, _origin(page.src_uri)):
            if files.get_file_from_path(_site_path(target)) is None:
                added = _file(target, config)
                files.append(added)
                if target.endswith(".md"):
                    waiting.append(added)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to files of the repository to their pages."""
    del config, files
    here = page.file.src_uri
    origin = _origin(here)

    def led(match: re.Match[str]) -> str:
        target = _resolved(match[2], origin)
        if target is None:
            return match[0]
        relative = posixpath.relpath(_site_path(target), posixpath.dirname(here))
        return f"{match[1]}{relative}{match[3]}"

    return LINK.sub(led, markdown)


def _origin(src_uri: str) -> str:
    """The path in the repository of a page of the site."""
    return src_uri.removeprefix(PREFIX) if src_uri.startswith(PREFIX) else f"docs/{src_uri}"


def _site_path(target: str) -> str:
    """The path in the site of a file of the repository."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    if target.endswith(PICTURES):
        return f"{PREFIX}{target}"
    return f"{PREFIX}{target}" if target.endswith(".md") else f"{PREFIX}{target}.md"


def _targets(markdown: str, origin: str) -> Iterator[str]:
    for match in LINK.finditer(markdown):
        target = _resolved(match[2], origin)
        if target is not None and not target.startswith("docs/"):
            yield target


def _resolved(link: str, origin: str) -> str | None:
    """The file that a link leads to, by its path in the repository; None when there is none."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
    return target if (REPOSITORY / target).is_file() else None


def _file(target: str, config: MkDocsConfig) -> File:
    if target.endswith(PICTURES):
        picture = (REPOSITORY / target).read_bytes()
        return File.generated(config, _site_path(target), content=picture)
    content = (REPOSITORY / target).read_text(encoding="utf-8")
    if not target.endswith(".md"):
        ending = target.rsplit(".", 1)[-1]
        language = LANGUAGES.get(ending, ending)
        content = (
            f"---\nsearch:\n  exclude: true\n---\n# {posixpath.basename(target)}\n\n"
            f"`{target}`\n\n````{language}\n{content}````\n"
        )
    return File.generated(
        config, _site_path(target), content=content, inclusion=InclusionLevel.NOT_IN_NAV
    )
