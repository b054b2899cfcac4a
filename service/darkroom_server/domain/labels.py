"""What the label of a version may be."""

from __future__ import annotations

MAX_LABEL_LENGTH = 64


def label_fault(label: str) -> str:
    """Why a text is no label; empty when it is one."""
    if not label or not label.isprintable() or label != label.strip() or label.isdecimal():
        return "must be a word, and not a number"
    return f"is longer than {MAX_LABEL_LENGTH} characters" * (len(label) > MAX_LABEL_LENGTH)
