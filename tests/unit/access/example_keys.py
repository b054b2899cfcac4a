"""Keys to try doors with."""

from __future__ import annotations

from typing import Any

from darkroom_server.access.key_format import NewKey, new_key
from darkroom_server.domain.keys import ApiKey, Permission


def api_key(made: NewKey | None = None, **changes: Any) -> ApiKey:
    """A key that may generate and fill, without limits."""
    made = made or new_key()
    values: dict[str, Any] = {
        "id": made.id,
        "name": "somebody",
        "sha256": made.sha256,
        "permissions": frozenset({Permission.GENERATE, Permission.FILL}),
    }
    return ApiKey(**(values | changes))
