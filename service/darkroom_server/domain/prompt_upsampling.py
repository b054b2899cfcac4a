"""How a model's prompts are rewritten before it draws them, where its config says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Where a config says no time.
DEFAULT_TIMEOUT_S: Final = 10.0
#: The longest that a request can be made to wait.
MAX_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class PromptUpsampling:
    """A program of the operator that rewrites prompts: a command or an HTTP endpoint, or neither.

    An answer that takes longer than `timeout_s` is not waited for.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    timeout_s: float = DEFAULT_TIMEOUT_S

    def __bool__(self) -> bool:
        return bool(self.command or self.url)
