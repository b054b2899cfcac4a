"""A scene with its latents, and how such examples are made."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import AutoencoderTiny

from darkroom_training.evaluation import Pixels
from darkroom_training.scenes import Scene, draw, random_scene


@dataclass(frozen=True, slots=True)
class SceneExample:
    """A scene and the latents of its drawing, float32 [4, 16, 16]."""

    scene: Scene
    latents: torch.Tensor


def scene_maker(
    autoencoder: AutoencoderTiny, rng: random.Random
) -> Callable[[int], list[SceneExample]]:
    """Makes examples of random scenes."""

    @torch.no_grad()
    def make(count: int) -> list[SceneExample]:
        scenes = [random_scene(rng) for _ in range(count)]
        pixels = torch.stack([as_tensor(draw(scene, rng)) for scene in scenes])
        with torch.autocast("cpu", torch.bfloat16):
            latents = autoencoder.encode(pixels.to(memory_format=torch.channels_last)).latents
        return [SceneExample(*pair) for pair in zip(scenes, latents.float(), strict=True)]

    return make


def as_tensor(picture: Pixels) -> torch.Tensor:
    """A picture, uint8 [height, width, 3], as float32 [3, height, width] in -1..1."""
    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1.0
