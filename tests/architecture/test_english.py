"""Public docstrings and the documentation use the field's terms, and words that everybody knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import REPOSITORY, SERVICE, Source, sources

#: Patterns of words that readers of English as a second language may not know, or that stand for a
#: usual term; with what to write.
AVOIDED = {
    r"anew": "again; restart",
    r"in vain": "without effect",
    r"for ever": "indefinitely; without limit",
    r"for good": "permanently",
    r"at hand": "available; present",
    r"is (had|held to)": "say who does what",
    r"sees? to it": "ensure",
    r"(was|were|is|are) told": "gets; receives; is reported",
    r"tells? (of|apart|not)": "reports; distinguishes",
    r"looked (at|past|through|for)": "checked; scanned; skipped; searched",
    r"what is (gone|lost|late)": "deleted; lost; late + noun",
    r"turned away": "refused",
    r"lately": "recently",
    r"so and so": "name it",
    r"whence|whither|thence|hence|whereof|thereof|albeit|lest": "a plain conjunction",
    r"hark|beget|betide|foresake|behold|dear": "expensive; a usual word",
    r"by and by|of late|ere": "later; recently; before",
}
#: Generated from protos, commands and tables.
GENERATED = {"command-line.md", "model-config.md", "protocol.md", "metrics.md", "parameters.md"}
#: Not yet revised.
UNREAD = {"adapters.md", "from-triton.md", "performance.md", "reliability.md", "scale-out.md"}
_PATTERNS = {
    re.compile(rf"\b(?:{words})\b", re.IGNORECASE): better for words, better in AVOIDED.items()
}


def avoided_words(text: str) -> list[str]:
    """What of the text should be written in other words, with those."""
    return [
        f"{found.group()!r} → {better}"
        for pattern, better in _PATTERNS.items()
        for found in pattern.finditer(text)
    ]


def _public_docstrings(source: Source) -> Iterator[tuple[str, str]]:
    tree = source.tree()
    for node in ast.walk(tree):
        name = "" if node is tree else getattr(node, "name", "_")
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and not name.startswith("_"):
            yield f"{source.path} {name}".strip(), ast.get_docstring(node) or ""


def test_public_docstrings_use_plain_words() -> None:
    found = {
        where: words
        for source in sources(SERVICE)
        for where, text in _public_docstrings(source)
        if (words := avoided_words(text))
    }
    assert found == {}


PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted(
        page for page in (REPOSITORY / "docs").glob("*.md") if page.name not in GENERATED | UNREAD
    ),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_plain_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # Code and italics are names of something.
    prose = re.sub(r"```.*?```|`[^`\n]*`|\*[^*\n]+\*", "", text, flags=re.DOTALL)
    assert avoided_words(prose) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("Callers are told of it, and looked at anew.", 3, id="idioms"),
        pytest.param("Callers get an event, and are checked again.", 0, id="plain"),
        pytest.param("adhered, thereby, hereby", 0, id="parts of other words"),
    ],
)
def test_whole_words_are_found(text: str, count: int) -> None:
    assert len(avoided_words(text)) == count
