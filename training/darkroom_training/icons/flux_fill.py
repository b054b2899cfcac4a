"""Version 2 of tiny-flux-fill: a FLUX.1 Fill pipeline that starts from what tiny-flux-schnell knows.

As version 1 (`darkroom_training.flux_fill`): the transformer also takes the latents of what is kept, the mask
and a guidance that changes nothing; their weights are zero at the start.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FluxFillPipeline
from transformers import CLIPTokenizer, T5Tokenizer

from darkroom_training import flux as first_flux
from darkroom_training import flux_fill as first_fill
from darkroom_training.checkpoint import Checkpoint
from darkroom_training.example_pool import ExamplePool
from darkroom_training.icons import autoencoder, device, flux, text
from darkroom_training.icons.fill_example import FillLatents, latents_of, random_fill
from darkroom_training.icons.scenes import GRID_PX
from darkroom_training.icons.stamps import StampBook
from darkroom_training.icons.tokenizers import MAX_TOKENS
from darkroom_training.measurement import DrawSettings
from darkroom_training.run import TrainingRun

SETTINGS = DrawSettings(step_count=8, guidance_scale=30.0, token_count=MAX_TOKENS)
#: A latent is told of its 8 by 8 pixels which are masked.
_MASK_CHANNELS = GRID_PX * GRID_PX
CONDITION_CHANNELS = flux.TOKEN_CHANNELS + 4 * _MASK_CHANNELS
POOL = 1500
FRESH_PER_STEP = 4


def start(folder: Path) -> tuple[flux.FluxModel, CLIPTokenizer, T5Tokenizer]:
    """A model that draws as the text-to-image model of the folder does."""
    model, words, t5_words = flux.start(folder, condition_channels=CONDITION_CHANNELS, guided=True)
    state = Checkpoint(folder / "flux.pt").load()
    if state is None:
        raise FileNotFoundError("no flux checkpoint: train that first")
    first_fill.take_over(model.transformer, {**state["model"], **state["average"]})
    return model, words, t5_words


def packed_mask(masks: torch.Tensor) -> torch.Tensor:
    """Masks [B, 192, 192] as tokens [B, 144, 256], each pixel of a latent a channel."""
    count, height, width = masks.shape
    blocks = masks.view(count, height // GRID_PX, GRID_PX, width // GRID_PX, GRID_PX)
    channels = blocks.permute(0, 2, 4, 1, 3).reshape(
        count, _MASK_CHANNELS, height // GRID_PX, width // GRID_PX
    )
    return first_flux.packed(channels.float())


def train(rank: int, rank_count: int, folder: Path, budget_s: float, peak_lr: float) -> None:
    """Trains for `budget_s` seconds in all; goes on from the last checkpoint."""
    torch.manual_seed(0)
    model, words, t5_words = start(folder)
    run = TrainingRun(
        model,
        folder / "flux-fill.pt",
        flux.options("flux-fill", budget_s, peak_lr),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=lambda _: None,
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    book, encoder = StampBook(folder / "icons"), autoencoder.load(folder)

    def make(count: int) -> list[FillLatents]:
        return latents_of(encoder, [random_fill(rng, book) for _ in range(count)])

    examples = ExamplePool(make, rng, size=POOL, fresh_per_step=FRESH_PER_STEP)
    model.transformer.compile()
    for _ in run.steps():
        run.descend(_loss(model, words, t5_words, examples.choose(flux.BATCH)))


def _loss(
    model: flux.FluxModel,
    words: CLIPTokenizer,
    t5_words: T5Tokenizer,
    examples: list[FillLatents],
) -> torch.Tensor:
    texts = [example.text for example in examples]
    latents = first_flux.packed(torch.stack([example.wanted for example in examples]))
    kept = first_flux.packed(torch.stack([example.kept for example in examples]))
    mask = packed_mask(torch.stack([example.mask for example in examples]))
    sigmas = first_fill.sampled_sigmas(len(examples))
    noise = torch.randn_like(latents)
    noisy = torch.lerp(latents, noise, sigmas[:, None, None])
    with device.mixed():
        made = model(
            torch.cat([noisy, kept, mask], dim=2),
            sigmas,
            text.token_ids(words, texts),
            text.token_ids(t5_words, texts),
            first_fill.sampled_guidance(len(examples)),
        )
    return F.mse_loss(made.float(), noise - latents)


def pipeline(
    folder: Path, model: flux.FluxModel, words: CLIPTokenizer, t5_words: T5Tokenizer
) -> Any:
    """The trained parts as a stock pipeline."""
    return FluxFillPipeline(
        scheduler=first_fill.scheduler(), **flux.parts(folder, model, words, t5_words)
    )
