"""What of the protocol is not offered, and why, for every edge that speaks it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from darkroom_server.domain.errors import NotOffered

SHARED_MEMORY: Final = (
    "Shared memory is not offered: tensors travel in messages, so that callers need not be on the "
    "server's machine. Leave set_shared_memory out and send the content."
)
CLASSIFICATION: Final = (
    "Classification is not offered: images have no classes. Leave class_count out."
)
#: What a parameter of a tensor begins with that asks for it.
_REASONS: Final = {"shared_memory": SHARED_MEMORY, "classification": CLASSIFICATION}


def require_offered(name: str, parameters: Collection[str]) -> None:
    """Raises NotOffered if a parameter of the tensor asks for what there is not."""
    for prefix, reason in _REASONS.items():
        if any(parameter.startswith(prefix) for parameter in parameters):
            raise NotOffered(f"{name[:64]}: {reason}")
