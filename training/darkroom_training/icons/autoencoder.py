"""The autoencoder of version 2: 192 px pictures to 24x24 latents of 4 channels and back.

An `AutoencoderTiny` of factor 8, trained as version 1's (see `darkroom_training.vae`): from a codec of block
averages, whole, then its latents are brought to mean 0 and deviation 1, then its decoder alone on slightly noisy
latents.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image

from darkroom_training import vae
from darkroom_training.checkpoint import Average
from darkroom_training.icons import device
from darkroom_training.icons.scenes import GRID_PX, SIZE_PX, draw, random_scene
from darkroom_training.icons.stamps import StampBook
from darkroom_training.run import RunOptions, TrainingRun
from darkroom_training.scene_example import as_tensor

WIDTH = 32
CROP_PX = 96
_CROPS_PER_SCENE = 2


def build() -> AutoencoderTiny:
    """A fresh autoencoder, factor 8, that passes block averages through."""
    model = AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 4,
        decoder_block_out_channels=(WIDTH,) * 4,
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(5, 4, 3, 1),
        latent_channels=vae.LATENT_CHANNELS,
        scaling_factor=1.0,
    )
    vae.pass_averages_through(model)
    return model.to(memory_format=torch.channels_last)


def _scene(rng: random.Random, book: StampBook) -> torch.Tensor:
    return as_tensor(draw(random_scene(rng), rng, book))


def _batch(rng: random.Random, book: StampBook, *, crops: bool) -> torch.Tensor:
    """Whole scenes [2, 3, 192, 192], or crops [8, 3, 96, 96]: the same cost."""
    if not crops:
        return torch.stack([_scene(rng, book) for _ in range(2)])
    cut = []
    for _ in range(4):
        image = _scene(rng, book)
        for _ in range(_CROPS_PER_SCENE):
            # Where things stand; the borders of a picture are seldom more than background.
            x, y = (
                rng.randrange(2 * GRID_PX, SIZE_PX - CROP_PX - GRID_PX, GRID_PX) for _ in range(2)
            )
            cut.append(image[:, y : y + CROP_PX, x : x + CROP_PX])
    return torch.stack(cut)


def train(
    rank: int, rank_count: int, folder: Path, budget_s: float, phase: str, peak_lr: float
) -> None:
    """Trains for `budget_s` seconds of wall time (`phase`: "joint" or "decoder"); resumable."""
    torch.manual_seed(rank)
    model = build()
    file = folder / f"vae-{phase}.pt"
    if phase == "decoder":
        model.load_state_dict(torch.load(folder / "vae-folded.pt", weights_only=True))
        model.encoder.requires_grad_(False)
    book = StampBook(folder / "icons")
    run = TrainingRun(
        model,
        file,
        RunOptions(
            name=f"vae {phase}",
            budget_s=budget_s,
            peak_lr=peak_lr,
            weight_decay=1e-4,
            average_decay=0.995,
            warm_up_steps=100,
            flat_share=0.4,
            lowest_share=0.02,
            checkpoint_interval_s=180.0,
            cpu_time=True,
        ),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=lambda average: _sample(model, average, book, file.with_suffix(".png")),
    )
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    for step in run.steps():
        pixels = device.here(_batch(rng, book, crops=step % 4 != 0))
        with device.mixed():
            loss = vae.phase_loss(model, pixels, phase)
        run.descend(loss)


@torch.no_grad()
def _sample(model: AutoencoderTiny, average: Average, book: StampBook, path: Path) -> None:
    """Writes true scenes above their reconstructions, and prints the mean PSNR."""
    shown = build()
    shown.load_state_dict(model.state_dict())
    average.copy_to(shown)
    shown.eval()
    rng = random.Random(99)
    pixels = device.here(torch.stack([_scene(rng, book) for _ in range(10)]))
    made = shown.decode(shown.encode(pixels).latents).sample.clamp(-1, 1)
    psnr_db = -10 * ((made - pixels).div(2).pow(2).mean(dim=(1, 2, 3))).log10()
    print(f"vae psnr mean {psnr_db.mean():.1f} dB, lowest {psnr_db.min():.1f} dB", flush=True)
    rows = [torch.cat(list(batch), dim=2) for batch in (pixels, made)]
    sheet = torch.cat(rows, dim=1).add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(np.ascontiguousarray(sheet)).save(path)


@torch.no_grad()
def fold(folder: Path, *, scene_count: int = 256) -> None:
    """Makes the averaged joint model's latents zero-mean and unit-variance by their weights."""
    model = build()
    state = torch.load(folder / "vae-joint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    model.load_state_dict(state["average"], strict=False)
    rng, book = random.Random(4), StampBook(folder / "icons")
    vae.normalise(
        model.eval(),
        [torch.stack([_scene(rng, book) for _ in range(16)]) for _ in range(scene_count // 16)],
    )
    torch.save(model.state_dict(), folder / "vae-folded.pt")


def load(folder: Path) -> AutoencoderTiny:
    """The best autoencoder trained so far: phase two's average if there is one."""
    model = build()
    model.load_state_dict(torch.load(folder / "vae-folded.pt", weights_only=True))
    tuned = folder / "vae-decoder.pt"
    if tuned.exists():
        state = torch.load(tuned, weights_only=True)
        model.load_state_dict(state["average"], strict=False)
    return model.eval()
