"""What `make test` leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
_SLOW_UNLESS_QUICK = {"parity", "e2e"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Parity and end-to-end tests run a real model: they count as slow unless marked quick."""
    for item in items:
        folder = item.path.relative_to(_TESTS).parts[0]
        if folder in _SLOW_UNLESS_QUICK and item.get_closest_marker("quick") is None:
            item.add_marker(pytest.mark.slow)
