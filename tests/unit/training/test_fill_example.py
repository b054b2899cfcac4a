"""Training examples of the Fill model: masks, pictures, and what of them is told."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from darkroom_training import shared_parts
from darkroom_training.fill_example import fill_maker, sample

BASE = Path(__file__).parents[3] / "model_repo" / "tiny-sdxl" / "1"


def test_masks_repaint_something_and_often_leave_something() -> None:
    rng = random.Random(0)
    shares = [sample(rng)[2].mean() for _ in range(200)]
    assert min(shares) > 0.005
    assert sum(share == 1.0 for share in shares) >= 10
    assert sum(share < 1.0 for share in shares) >= 120


def test_the_picture_has_the_size_of_its_mask_and_a_prompt() -> None:
    rng = random.Random(1)
    for _ in range(20):
        text, picture, mask = sample(rng)
        assert text
        assert picture.shape == (256, 256, 3)
        assert mask.shape == (256, 256)


def test_the_kept_latents_know_nothing_of_what_is_masked() -> None:
    make = fill_maker(shared_parts.autoencoder(BASE), random.Random(2))
    for example in make(6):
        masked = torch.nn.functional.max_pool2d(~example.mask[None, None] * 1.0, 16)[0, 0] == 0
        gone = (example.wanted - example.kept).abs().mean(dim=0)
        if masked.all():
            # An all-gray picture: every latent of the inside is alike.
            assert example.kept[:, 4:-4, 4:-4].std(dim=(1, 2)).max() < 0.05
        elif masked.any():
            assert gone[masked].mean() > gone[~masked].mean()
