"""Texts that are longer than a pipeline's text encoders read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Tokenizers of a pipeline, each with the tokens that its text encoder reads.
TokenLimits = list[tuple[Any, int]]


def token_limits(pipeline: Any, counts: Mapping[str, int]) -> TokenLimits:
    """Those of a pipeline; `counts` by component where the tokenizer's own limit does not tell."""
    return [
        (part, min(counts.get(name, part.model_max_length), part.model_max_length))
        for name, part in pipeline.components.items()
        if name.startswith("tokenizer") and part is not None
    ]


def is_cut(text: str, limits: TokenLimits) -> bool:
    """Whether none of the text encoders reads a text to its end."""
    return bool(limits) and all(
        len(tokenizer(text, truncation=False, verbose=False).input_ids) > count
        for tokenizer, count in limits
    )
