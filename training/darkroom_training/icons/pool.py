"""Scenes with their latents, made once and kept on disk for every training that follows.

A shard is told from its number alone: its scenes are drawn again from the same seeds, only their latents are
stored. So a pool belongs to one grammar and one encoder, and says so when it meets another.
"""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom_training.icons import autoencoder, device
from darkroom_training.icons.concepts import CONCEPTS
from darkroom_training.icons.scenes import Scene, draw, random_scene
from darkroom_training.icons.stamps import StampBook
from darkroom_training.scene_example import as_tensor

SHARD_SCENES = 1000
_BATCH = 10


class PoolOfAnotherGrammar(RuntimeError):
    """The stored latents are not of the scenes that this code would draw."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Scenes, and latents float16 [scenes, 4, 24, 24]."""

    scenes: list[Scene]
    latents: torch.Tensor

    def choose(self, count: int, rng: random.Random) -> tuple[list[Scene], torch.Tensor]:
        """Some scenes with their latents, float32."""
        rows = [rng.randrange(len(self.scenes)) for _ in range(count)]
        return [self.scenes[row] for row in rows], device.here(self.latents[rows].float())


def _seeds(shard: int) -> list[random.Random]:
    return [random.Random(f"pool {shard} {k}") for k in range(SHARD_SCENES)]


def _digest(scenes: list[Scene]) -> str:
    """Of the scenes and of the icons that they are drawn with."""
    drawn_with = [(concept.icon, concept.faces) for concept in CONCEPTS.values()]
    return hashlib.sha256(repr((scenes, drawn_with)).encode()).hexdigest()


def _file(folder: Path, shard: int) -> Path:
    return folder / "pool" / f"{shard:04d}.pt"


@torch.no_grad()
def extend(rank: int, rank_count: int, folder: Path, shard_count: int) -> None:
    """Makes those of the first `shard_count` shards that are missing; ranks take turns."""
    book, encoder = StampBook(folder / "icons"), autoencoder.load(folder)
    (folder / "pool").mkdir(exist_ok=True)
    for shard in range(rank, shard_count, rank_count):
        path = _file(folder, shard)
        if path.exists():
            continue
        scenes, latents = [], []
        seeds = _seeds(shard)
        for start in range(0, SHARD_SCENES, _BATCH):
            group = seeds[start : start + _BATCH]
            drawn = [random_scene(rng) for rng in group]
            pixels = [
                as_tensor(draw(scene, rng, book)) for scene, rng in zip(drawn, group, strict=True)
            ]
            with device.mixed():
                batch = device.here(torch.stack(pixels)).to(memory_format=torch.channels_last)
                latents.append(encoder.encode(batch).latents.half().cpu())
            scenes += drawn
        partial = path.with_suffix(".partial")
        torch.save({"latents": torch.cat(latents), "scenes_sha256": _digest(scenes)}, partial)
        os.replace(partial, path)
        print(f"pool: shard {shard + 1} of {shard_count}, {SHARD_SCENES} scenes", flush=True)


def load(folder: Path) -> Pool:
    """All shards that there are."""
    scenes: list[Scene] = []
    latents = []
    for path in sorted((folder / "pool").glob("*.pt")):
        stored = torch.load(path, weights_only=True)
        drawn = [random_scene(rng) for rng in _seeds(int(path.stem))]
        if stored["scenes_sha256"] != _digest(drawn):
            raise PoolOfAnotherGrammar(f"{path} was made by another grammar: delete {path.parent}")
        scenes += drawn
        latents.append(stored["latents"])
    if not latents:
        raise FileNotFoundError(f"no pool in {folder}: make it first")
    return Pool(scenes, torch.cat(latents))
