"""Texts that are longer than a pipeline's text encoders read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

#: Tokenizers of a pipeline, each with the tokens that its text encoder reads.
TokenLimits = list[tuple[Any, int]]

#: Texts are repeated, and to split a long one takes a part of a short step.
KEPT_ANSWER_COUNT = 256


def token_limits(pipeline: Any, counts: Mapping[str, int]) -> TokenLimits:
    """Those of a pipeline; `counts` by component where the text encoder's limit is another."""
    return [
        (part, min(counts.get(name, part.model_max_length), part.model_max_length))
        for name, part in pipeline.components.items()
        if name.startswith("tokenizer") and part is not None
    ]


class CutTexts:
    """Finds texts that none of the text encoders reads to the end. Thread-bound."""

    def __init__(self, limits: TokenLimits) -> None:
        self._limits = limits
        self._answer = functools.lru_cache(KEPT_ANSWER_COUNT)(self._is_cut)

    def __contains__(self, text: str) -> bool:
        return self._answer(text)

    def _is_cut(self, text: str) -> bool:
        return bool(self._limits) and all(
            len(tokenizer(text, truncation=False, verbose=False).input_ids) > count
            for tokenizer, count in self._limits
        )
