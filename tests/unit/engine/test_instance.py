"""What worker processes start with."""

from __future__ import annotations

import os

import pytest

from darkroom_server.engine.instance import ALLOCATOR, prepare_fork_server


def test_workers_keep_freed_memory_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"MALLOC_TRIM_THRESHOLD_": "1"}
    monkeypatch.setattr(os, "environ", given)
    prepare_fork_server(preload_torch=False)
    assert {name: given[name] for name in ALLOCATOR} == ALLOCATOR | {"MALLOC_TRIM_THRESHOLD_": "1"}
