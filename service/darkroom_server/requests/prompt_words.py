"""Words that a model of a small vocabulary was never taught: it draws without them."""

from __future__ import annotations

from darkroom_server.domain.jobs import ImageSpec
from darkroom_server.domain.models import ModelInfo
from darkroom_server.domain.notices import Notice, NoticeReason
from darkroom_server.domain.pipeline_call import guides_above

#: Words that a warning names, and letters of each; a prompt may have thousands.
MAX_NAMED = 8
_MAX_WORD_LENGTH = 40


def unknown_words(spec: ImageSpec, model: ModelInfo) -> tuple[Notice, ...]:
    """A notice for each text with words that are not of the model's vocabulary, if it has one.

    Nor of the adapters': what one was trained with, a request with it may say.
    """
    taught = [words for use in spec.adapters for words in use.adapter.trigger_words]
    texts = {"prompt": spec.prompt}
    none = guides_above(model.pipeline_class)
    if model.parameters.get("negative_prompt") and spec.guidance_scale > none:
        texts["negative_prompt"] = spec.negative_prompt or ""
    return tuple(
        _notice(field, words, model)
        for field, text in texts.items()
        if (words := model.vocabulary.unknown_in(text, taught))
    )


def _notice(field: str, words: tuple[str, ...], model: ModelInfo) -> Notice:
    named = tuple(word[:_MAX_WORD_LENGTH] for word in words[:MAX_NAMED])
    more = f" and {len(words) - MAX_NAMED} more" if len(words) > MAX_NAMED else ""
    listed = ", ".join(f"{word!r}" for word in named)
    text = (
        f"models/{model.name} was not taught {listed}{more} and cannot draw what it does not know"
    )
    return Notice(NoticeReason.PROMPT_WORDS_UNKNOWN, text, field, named)
