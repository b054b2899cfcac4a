from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no failure: how long an example may take is left to pytest's own timeout.
settings.register_profile("darkroom", deadline=None)
settings.load_profile("darkroom")


@pytest.fixture(scope="module", autouse=True)
def own_environment() -> Iterator[None]:
    """What an engine or a loader tells its process is not told to the tests of other files."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
