"""Docstrings, comments and the documentation use the field's terms, and words that all know."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import REPOSITORY, SERVICE, Source, sources

#: Patterns of words that readers of English as a second language may not know, or that stand for a
#: usual term; with what to write.
AVOIDED = {
    r"anew": "again; restart",
    r"again and again|now and then|once more": "repeatedly; sometimes; again",
    r"in vain": "without effect",
    r"for ever": "indefinitely; without limit",
    r"for good": "permanently",
    r"(for )?want of": "lack of; because there is no",
    r"at hand|in hand": "available; present; to do",
    r"at work": "in progress; running",
    r"is had|held to": "say who does what; counts as; checked against",
    r"sees? to( it)?|seen to": "ensure; handled",
    r"told|tells?|telling": "gets; reports; says; distinguishes",
    r"looked (at|past|through|for)": "checked; scanned; skipped; searched",
    r"what is (gone|lost|late)": "deleted; lost; late + noun",
    r"goes? by|go by": "reference; by",
    r"so (many|long|often|much)(?! (as|that))": "the number, by its name",
    r"(stood|stands?|standing) still": "unchanged; idle; stopped",
    r"let go|lets go": "released; unloaded",
    r"ha?ngs? up|hung up|hanging up": "disconnects; cancels",
    r"turned away": "refused",
    r"whoever": "the one who; anyone who",
    r"news": "new; events; reports",
    r"lately": "recently",
    r"so and so": "name it",
    r"whence|whither|thence|hence|whereof|thereof|albeit|lest": "a plain conjunction",
    r"hark|beget|betide|foresake|behold|dear": "expensive; a usual word",
    r"by and by|of late|ere": "later; recently; before",
}
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


def _prose(source: Source) -> Iterator[tuple[str, str]]:
    """Every docstring and comment, with where it is."""
    tree = source.tree()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = getattr(node, "name", "")
            yield f"{source.path} {name}".strip(), ast.get_docstring(node) or ""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            yield f"{source.path}:{token.start[0]}", token.string


def test_docstrings_and_comments_use_plain_words() -> None:
    found = {
        where: words
        for source in (*sources(SERVICE), *sources(REPOSITORY / "clients" / "python"))
        for where, text in _prose(source)
        # Code in them is names of something.
        if (words := avoided_words(re.sub(r"`[^`\n]*`", "", text)))
    }
    assert found == {}


def _messages(source: Source) -> Iterator[tuple[str, str]]:
    """Every text of several words that is no docstring: messages, help, log lines."""
    tree = source.tree()
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if " " in text and id(node) not in docstrings:
                yield f"{source.path}:{node.lineno}", text


def test_messages_use_plain_words() -> None:
    found = {
        where: words
        for source in (*sources(SERVICE), *sources(REPOSITORY / "clients" / "python"))
        for where, text in _messages(source)
        if (words := avoided_words(re.sub(r"`[^`\n]*`", "", text)))
    }
    assert found == {}


PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "SECURITY.md",
    *sorted((REPOSITORY / "clients").glob("*/README.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_pages_use_plain_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    # Code and italics are names of something.
    prose = re.sub(r"```.*?```|`[^`\n]*`|\*[^*\n]+\*", "", text, flags=re.DOTALL)
    assert avoided_words(prose) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("Callers are told of it, and looked at anew.", 3, id="idioms"),
        pytest.param("After so long, for want of room, it is told once more.", 4, id="riddles"),
        pytest.param("So long as it runs; so many that it takes long.", 0, id="comparisons"),
        pytest.param("Callers get an event, and are checked again.", 0, id="plain"),
        pytest.param("adhered, thereby, hereby", 0, id="parts of other words"),
    ],
)
def test_whole_words_are_found(text: str, count: int) -> None:
    assert len(avoided_words(text)) == count
