"""What a check of `darkroom doctor` finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Health(enum.Enum):
    """How a thing is; the value is how a line begins."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, with a remedy if something is wrong."""

    subject: str
    health: Health
    text: str
    remedy: str = ""
