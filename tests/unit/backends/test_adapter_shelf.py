"""Adapters in host memory and on the device: those used last, within two limits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom_server.backends.diffusers.adapters import pipeline as pipelines
from darkroom_server.backends.diffusers.adapters.low_rank import Adapter, LowRank
from darkroom_server.backends.diffusers.adapters.pipeline import PipelineAdapters
from darkroom_server.backends.diffusers.adapters.shelf import AdapterShelf
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.adapters import AdapterMemory, AdapterUse, AdapterVersion
from tests.unit.specs import image_spec

#: Bytes of one adapter.
SIZE = 800


def adapter(key: str) -> Adapter:
    pair = LowRank(torch.zeros(1, 100), torch.zeros(100, 1), 1.0, 1.0)
    return Adapter(key=key, parts={"unet": {"layer": pair}})


def test_what_was_used_longest_ago_makes_room() -> None:
    shelf = AdapterShelf(max_bytes=2 * SIZE)
    for key in ("a", "b", "a", "c"):
        shelf.lookup(key, lambda key=key: adapter(key))  # type: ignore[misc]
    assert [key for key in "abc" if shelf.found(key)] == ["a", "c"]
    assert shelf.held_bytes == 2 * SIZE


def test_a_hundred_leave_no_more_than_the_limit() -> None:
    shelf = AdapterShelf(max_bytes=5 * SIZE)
    for number in range(100):
        shelf.lookup(str(number), lambda: adapter("x"))
        assert shelf.held_bytes <= 5 * SIZE


def test_one_above_the_limit_is_held_until_the_next() -> None:
    shelf = AdapterShelf(max_bytes=SIZE // 2)
    shelf.lookup("a", lambda: adapter("a"))
    assert shelf.found("a") is not None
    shelf.lookup("b", lambda: adapter("b"))
    assert shelf.found("a") is None
    assert shelf.held_bytes == SIZE


def test_what_cannot_be_made_is_not_held() -> None:
    shelf = AdapterShelf(max_bytes=SIZE)

    def fail() -> Adapter:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        shelf.lookup("a", fail)
    assert shelf.held_bytes == 0
    assert shelf.lookup("a", lambda: adapter("a")).key == "a"


class Pipeline:
    _lora_loadable_modules = ("unet",)

    def lora_state_dict(self) -> None:
        """As pipelines have it that take adapters."""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the files that are read, in order."""
    keys: list[str] = []

    def read(file: Path, pipeline: Any, *, key: str) -> Adapter:
        del file, pipeline
        keys.append(key)
        return adapter(key)

    monkeypatch.setattr(pipelines, "read_adapter", read)
    return keys


def held(*, host: int, device: int) -> PipelineAdapters:
    """On a device that is not the processor."""
    made = PipelineAdapters(
        Pipeline(), torch.nn.Identity(), PromptCache(max_bytes=1), torch.device("meta")
    )
    made.hold(AdapterMemory(max_host_bytes=host * SIZE, max_device_bytes=device * SIZE))
    return made


def used(path: Path, key: str) -> AdapterUse:
    path.touch()
    version = AdapterVersion(name=key, version=1, path=path, digest=key, size_bytes=1)
    return AdapterUse(adapter=version, weight=1.0)


def test_the_device_has_a_limit_of_its_own(reads: list[str], tmp_path: Path) -> None:
    adapters = held(host=3, device=1)

    def ask(key: str) -> str:
        [one] = adapters.of(image_spec(adapters=(used(tmp_path / key, key),)))
        return one.adapter.parts["unet"]["layer"].down.device.type

    assert [ask(key) for key in "aab"] == ["meta"] * 3
    assert reads == ["a", "b"]
    ask("a")  # from the host's memory
    assert reads == ["a", "b"]
    for key in "cd":
        ask(key)
    ask("b")  # made room in both
    assert reads == ["a", "b", "c", "d", "b"]


def test_reading_goes_on_beside_and_once(reads: list[str], tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    adapters, may_read = held(host=3, device=3), threading.Event()
    read = pipelines.read_adapter

    def waiting(file: Path, pipeline: Any, *, key: str) -> Adapter:
        assert may_read.wait(120)
        return read(file, pipeline, key=key)

    monkeypatch.setattr(pipelines, "read_adapter", waiting)
    spec = image_spec(adapters=(used(tmp_path / "a", "a"),))
    assert [adapters.prepared(spec, 0.0) for _ in range(3)] == [False] * 3
    may_read.set()
    assert adapters.prepared(spec, 120)
    assert adapters.prepared(spec, 0.0)
    assert reads == ["a"]
