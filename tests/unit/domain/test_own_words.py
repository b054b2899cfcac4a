"""What a library said of a failure, for whoever loads the model."""

from __future__ import annotations

import pytest

from darkroom_server.domain.errors import GenerationFailed
from darkroom_server.domain.own_words import own_words


def caused(cause: Exception) -> Exception:
    error = GenerationFailed("The model failed on this request.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(
            ValueError("Invalid sample size"), "ValueError: Invalid sample size", id="own"
        ),
        pytest.param(caused(KeyError("x")), "KeyError: 'x'", id="cause"),
        pytest.param(GenerationFailed("Not finite."), "Not finite.", id="of-darkroom"),
        pytest.param(RuntimeError(), "RuntimeError", id="silent"),
        pytest.param(
            OSError("no file /srv/models/m/1/vae in\n  the folder"),
            "OSError: no file … in the folder",
            id="path",
        ),
        pytest.param(
            ValueError("see https://example.org/a/b"),
            "ValueError: see https://example.org/a/b",
            id="address",
        ),
    ],
)
def test_words_are_one_line_without_paths(error: Exception, words: str) -> None:
    assert own_words(error) == words


def test_long_words_are_cut() -> None:
    assert len(own_words(ValueError("a" * 10_000))) < 500
