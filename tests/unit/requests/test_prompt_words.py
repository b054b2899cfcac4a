from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.vocabulary import Vocabulary
from darkroom_server.requests.image_requests import AdapterRequest, ImageRequest
from darkroom_server.requests.prompt_words import MAX_NAMED
from darkroom_server.requests.resolve import resolve
from tests.unit.example_models import FLUX_FILL, FLUX_SCHNELL, SDXL

WORDS = Vocabulary(words=("a", "red", "circle"), example_prompts=("a red circle",))


def told(prompt: str, model: ModelInfo = SDXL, **fields: Any) -> list[Notice]:
    request = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt=prompt, **fields)
    notices = resolve(request, replace(model, vocabulary=WORDS), choose_seed=lambda _: 0).notices
    return [one for one in notices if one.reason is NoticeReason.PROMPT_WORDS_UNKNOWN]


@pytest.mark.parametrize("model", [SDXL, FLUX_SCHNELL], ids=lambda model: str(model.name))
def test_unknown_words_of_a_prompt_are_named(model: ModelInfo) -> None:
    [notice] = told("A red cat, a CAT on a mat", model)
    assert (notice.field, notice.words) == ("prompt", ("cat", "on", "mat"))
    assert "'cat', 'on', 'mat'" in notice.description
    assert f"models/{model.name}" in notice.description


def test_a_prompt_of_known_words_is_not_warned_about() -> None:
    assert told("a red circle", negative_prompt="a circle", guidance_scale=3.0) == []


@pytest.mark.parametrize(
    ("model", "fields", "is_told"),
    [
        pytest.param(SDXL, {"guidance_scale": 3.0}, True, id="with-guidance"),
        pytest.param(SDXL, {"guidance_scale": 1.0}, False, id="it-has-no-effect-anyway"),
    ],
)
def test_a_negative_prompt_is_looked_at_where_it_has_an_effect(
    model: ModelInfo, fields: dict[str, Any], is_told: bool
) -> None:
    named = [(one.field, one.words) for one in told("a", model, negative_prompt="ugly", **fields)]
    assert named == ([("negative_prompt", ("ugly",))] if is_told else [])


def test_words_that_an_adapter_of_the_request_was_trained_with_are_known() -> None:
    ink = AdapterVersion(
        name="ink",
        version=1,
        path=Path("ink.safetensors"),
        digest="",
        size_bytes=0,
        trigger_words=("Quokka ink-drawing",),
    )
    model = replace(SDXL, vocabulary=WORDS, parameters={**SDXL.parameters, "adapters": True})
    request = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a red quokka, ink-drawing of a mat")

    def unknown(*asked: AdapterRequest) -> list[tuple[str, ...]]:
        with_adapters = replace(request, adapters=asked)
        resolved = resolve(with_adapters, model, adapters=(ink,), choose_seed=lambda _: 0)
        return [one.words for one in resolved.notices]

    assert unknown() == [("quokka", "ink", "drawing", "of", "mat")]
    assert unknown(AdapterRequest("ink")) == [("of", "mat")]


def test_of_thousands_of_words_a_few_are_named() -> None:
    [notice] = told(" ".join(f"word{n}{'x' * 100}" for n in range(3000)))
    assert len(notice.words) == MAX_NAMED
    assert f"and {3000 - MAX_NAMED} more" in notice.description
    assert len(notice.description) < 600


def test_models_without_a_vocabulary_take_any_word() -> None:
    request = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a cat")
    assert FLUX_FILL.vocabulary == Vocabulary()
    assert resolve(request, SDXL, choose_seed=lambda _: 0).notices == ()
