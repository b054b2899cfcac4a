"""Adapters: low-rank additions to a model's layers, which a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """One version of an adapter on disk: `path` is its file.

    `digest` is the hex SHA-256 of its folder. `ranks` are those of its layers, ascending; `targets`
    the parts of the pipeline that it adds to.
    """

    name: str
    version: int
    path: Path
    digest: str
    size_bytes: int
    #: When its content last changed; 0: not known.
    mtime_ns: int = 0
    ranks: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    default_weight: float = 1.0
    trigger_words: tuple[str, ...] = ()
    license: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUse:
    """An adapter of a request and how much of it: 0 nothing, below 0 the opposite."""

    adapter: AdapterVersion
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterMemory:
    """What a worker keeps of adapters that no image is being made with.

    On a processor both are one, of `max_host_bytes`.
    """

    max_host_bytes: int = 2 << 30
    max_device_bytes: int = 1 << 30
