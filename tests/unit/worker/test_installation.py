from __future__ import annotations

import importlib.metadata

import pytest

from darkroom_server.worker import installation


def test_fingerprints_name_libraries_and_device_in_one_word() -> None:
    torch = importlib.metadata.version("torch")
    named = installation.named_in_fingerprints("x86_64 avx2 2 threads")
    assert named.startswith(f"torch-{torch}+diffusers-")
    assert named.endswith("+x86_64-avx2-2-threads")
    assert "/" not in named


@pytest.mark.parametrize("changed", installation.LIBRARIES)
def test_another_version_of_a_library_is_another_condition(
    monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    before = installation.conditions("cpu")
    installed = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0" if name == changed else installed(name)
    )
    after = installation.conditions("cpu")
    assert {name for name in before if before[name] != after[name]} == {changed}


def test_another_processor_is_another_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    before = installation.conditions("cpu")
    monkeypatch.setattr(installation, "processor_name", lambda: "another")
    assert installation.conditions("cpu") != before
