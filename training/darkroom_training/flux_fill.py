"""Training of tiny-flux-fill: a FLUX.1 Fill pipeline that starts from what tiny-flux-schnell knows.

The transformer also takes the latents of what is kept and the mask, of which it knows nothing at the
start (their weights are zero), and a guidance. The guidance is drawn at random and changes nothing
that is to be predicted: every value draws the same, as FLUX.1 Fill's usual 30 does.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTokenizer, T5Tokenizer

from darkroom_training import flux, sample_sheet, shared_parts, t5_tokenizer
from darkroom_training.checkpoint import Average, Checkpoint
from darkroom_training.example_pool import ExamplePool
from darkroom_training.fill_example import FillExample, fill_maker
from darkroom_training.fill_measurement import measure_fill, sample_fill_trials
from darkroom_training.flux import FluxModel
from darkroom_training.measurement import DrawSettings
from darkroom_training.run import TrainingRun

SETTINGS = DrawSettings(step_count=8, guidance_scale=30.0, token_count=t5_tokenizer.MAX_TOKENS)
#: A latent is told of its 16 by 16 pixels which are masked.
_MASK_CHANNELS = 16 * 16
CONDITION_CHANNELS = flux.TOKEN_CHANNELS + 4 * _MASK_CHANNELS
#: Guidances that training draws from, evenly in their logarithm.
_GUIDANCE = (1.0, 60.0)
POOL = 1500
FRESH_PER_STEP = 2
_SHOWN = 16


def build(base: Path, words: T5Tokenizer) -> FluxModel:
    """A fresh model."""
    return FluxModel(base, words, condition_channels=CONDITION_CHANNELS, guided=True)


@torch.no_grad()
def start_from(model: FluxModel, folder: Path) -> None:
    """Takes over the averaged weights of the text-to-image model; what is new adds nothing yet."""
    state = Checkpoint(folder / "flux.pt").load()
    if state is None:
        raise FileNotFoundError("no flux checkpoint: train that first")
    learnt = {**state["model"], **state["average"]}
    model.load_state_dict({k: v for k, v in learnt.items() if "x_embedder" not in k}, strict=False)
    take_over(model.transformer, learnt)


@torch.no_grad()
def take_over(transformer: FluxTransformer2DModel, learnt: dict[str, torch.Tensor]) -> None:
    """Gives a Fill transformer the weights of a text-to-image one; what is new adds nothing yet."""
    prefix = "transformer."
    own = {k.removeprefix(prefix): v for k, v in learnt.items() if k.startswith(prefix)}
    entrance = own.pop("x_embedder.weight")
    transformer.load_state_dict(own, strict=False)
    embedder = transformer.x_embedder.weight
    embedder.zero_()
    embedder[:, : entrance.shape[1]] = entrance
    last = transformer.time_text_embed.guidance_embedder.linear_2
    last.weight.zero_()
    last.bias.zero_()


def packed_mask(masks: torch.Tensor) -> torch.Tensor:
    """Masks [B, 256, 256] as tokens [B, 64, 1024], each pixel of a latent a channel."""
    count, height, width = masks.shape
    blocks = masks.view(count, height // 16, 16, width // 16, 16).permute(0, 2, 4, 1, 3)
    return flux.packed(blocks.reshape(count, _MASK_CHANNELS, height // 16, width // 16).float())


def train(
    rank: int, rank_count: int, folder: Path, base: Path, budget_s: float, peak_lr: float
) -> None:
    """Trains for `budget_s` seconds of wall time in all; goes on from the last checkpoint."""
    words, t5_words = shared_parts.clip_words(base), t5_tokenizer.build()
    torch.manual_seed(0)
    model = build(base, t5_words)
    start_from(model, folder)

    def show(average: Average) -> None:
        shown = build(base, t5_words)
        shown.load_state_dict(model.state_dict())
        average.copy_to(shown)
        trials = sample_fill_trials(_SHOWN, seed=1)
        results = measure_fill(pipeline(base, shown.eval()), trials, settings=SETTINGS)
        raw = np.stack([result.raw for result in results]).astype(np.float32) / 255
        sample_sheet.write(raw, folder / "flux-fill.png")

    run = TrainingRun(
        model,
        folder / "flux-fill.pt",
        flux.options("flux-fill", budget_s, peak_lr),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=show,
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    make = fill_maker(shared_parts.autoencoder(base), rng)
    pool = ExamplePool(make, rng, size=POOL, fresh_per_step=FRESH_PER_STEP)
    model.transformer.compile()
    for _ in run.steps():
        run.descend(_loss(model, words, t5_words, pool.choose(flux.BATCH), rng))


def sampled_sigmas(count: int) -> torch.Tensor:
    """Gathered where the shifted schedule has its steps; one in five is pure noise."""
    sigmas = torch.sigmoid(0.5 + 1.2 * torch.randn(count))
    return torch.where(torch.rand(count) < 0.2, torch.ones(count), sigmas)


def sampled_guidance(count: int) -> torch.Tensor:
    """Guidances from `_GUIDANCE`, evenly in their logarithm: [count]."""
    low, high = (torch.tensor(edge).log() for edge in _GUIDANCE)
    return torch.lerp(low, high, torch.rand(count)).exp()


def _loss(
    model: FluxModel,
    words: CLIPTokenizer,
    t5_words: T5Tokenizer,
    examples: list[FillExample],
    rng: random.Random,
) -> torch.Tensor:
    texts = [flux.said(example.text, rng) for example in examples]
    latents = flux.packed(torch.stack([example.wanted for example in examples]))
    kept = flux.packed(torch.stack([example.kept for example in examples]))
    mask = packed_mask(torch.stack([example.mask for example in examples]))
    sigmas, guidance = sampled_sigmas(len(examples)), sampled_guidance(len(examples))
    noise = torch.randn_like(latents)
    noisy = torch.lerp(latents, noise, sigmas[:, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        made = model(
            torch.cat([noisy, kept, mask], dim=2),
            sigmas,
            flux.token_ids(words, texts),
            flux.token_ids(t5_words, texts),
            guidance,
        )
    return F.mse_loss(made.float(), noise - latents)


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Sigmas are shifted as FLUX.1 Fill's are."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        shift=3.0,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def pipeline(base: Path, model: FluxModel) -> FluxFillPipeline:
    """The trained parts as a stock pipeline."""
    return FluxFillPipeline(scheduler=scheduler(), **flux.parts(base, model))
