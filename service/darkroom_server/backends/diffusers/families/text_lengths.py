"""How many tokens texts have, for families whose steps are shared by texts of one length only."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable
from typing import Any

#: Texts whose lengths are remembered.
_KEPT_COUNT = 1024


class TextLengths:
    """Lengths as `measure(tokenizer, text)` says. Any thread.

    Admission asks for them, too, while the pipeline's own tokenizer encodes: so it has a copy.
    """

    def __init__(self, tokenizer: Any, measure: Callable[[Any, str], int]) -> None:
        self._measuring = threading.Lock()
        self._tokenizer = copy.deepcopy(tokenizer)
        self._measure = measure
        self._of = functools.lru_cache(_KEPT_COUNT)(self._measured)

    def __call__(self, text: str) -> int:
        """Of one text."""
        return self._of(text)

    def _measured(self, text: str) -> int:
        with self._measuring:
            return self._measure(self._tokenizer, text)
