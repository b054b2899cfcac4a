"""The embedded models' autoencoder: 256 px scenes to 16x16 latents of 4 channels and back.

An `AutoencoderTiny` (no normalisation layers, so flat colours survive) that starts as a codec of
16 px block averages: residual branches begin at zero, three channels carry RGB through. Training
has only edges left to learn, which a CPU does in minutes.

Phase one trains encoder and decoder together. Then the latents' mean and deviation are folded
into the encoder (so that `scaling_factor` is 1 and each channel is near standard normal), the
encoder is frozen, and phase two fits the decoder to slightly noisy latents: a denoiser's result
is never quite a latent that the encoder would have made.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from PIL import Image

from darkroom_training.checkpoint import Average
from darkroom_training.run import RunOptions, TrainingRun
from darkroom_training.scene_example import as_tensor
from darkroom_training.scenes import SIZE_PX, draw, random_scene

#: The stock SDXL inpainting pipeline takes UNets of 4 (or 9) input channels only.
LATENT_CHANNELS = 4
WIDTH = 32
CONTRAST = 2.5
CROP_PX = 128


def build() -> AutoencoderTiny:
    """A fresh autoencoder, factor 16, that passes block averages through."""
    model = AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 5,
        decoder_block_out_channels=(WIDTH,) * 5,
        num_encoder_blocks=(0, 1, 1, 1, 2),
        num_decoder_blocks=(3, 3, 2, 1, 1),
        latent_channels=LATENT_CHANNELS,
        scaling_factor=1.0,
    )
    pass_averages_through(model)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def pass_averages_through(model: AutoencoderTiny) -> None:
    """Makes a fresh autoencoder a codec of block averages, in three channels of its features."""
    for module in model.modules():
        if isinstance(module, AutoencoderTinyBlock):
            module.conv[-1].weight.zero_()
            module.conv[-1].bias.zero_()
    for half in (model.encoder, model.decoder):
        convs = [layer for layer in half.layers if isinstance(layer, torch.nn.Conv2d)]
        for conv in convs:
            conv.weight[:3] = 0.0
            if conv.bias is not None:
                conv.bias[:3] = 0.0
            for channel in range(3):
                if conv.stride == (2, 2):
                    conv.weight[channel, channel, 1:, 1:] = 0.25
                else:
                    conv.weight[channel, channel, 1, 1] = 1.0
        # Latents are (average - 0.5) * CONTRAST; the decoder undoes it.
        if half is model.encoder:
            convs[-1].weight[:3] *= CONTRAST
            convs[-1].bias[:3] = -0.5 * CONTRAST
        else:
            convs[0].weight[:3] /= CONTRAST
            convs[0].bias[:3] = 0.5


def scene_pixels(rng: random.Random) -> torch.Tensor:
    """A random scene as float32 [3, 256, 256] in -1..1."""
    return as_tensor(draw(random_scene(rng), rng))


def scene_batch(rng: random.Random, *, crops: bool) -> torch.Tensor:
    """Whole scenes [2, 3, 256, 256], or crops [8, 3, 128, 128]: the same cost."""
    if not crops:
        return torch.stack([scene_pixels(rng) for _ in range(2)])
    cut = []
    for _ in range(4):
        image = scene_pixels(rng)
        for _ in range(2):
            x, y = (rng.randrange(0, SIZE_PX - CROP_PX + 1, 16) for _ in range(2))
            cut.append(image[:, y : y + CROP_PX, x : x + CROP_PX])
    return torch.stack(cut)


def reconstruction_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 on pixels and on their differences to the right and below: edges stay sharp."""
    loss = F.l1_loss(made, wanted) + 2.0 * F.mse_loss(made, wanted)
    for dim in (2, 3):
        loss = loss + F.l1_loss(made.diff(dim=dim), wanted.diff(dim=dim))
    return loss


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
            checkpoint_interval_s=120.0,
        ),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=lambda average: _sample(model, average, file.with_suffix(".png")),
    )
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    for step in run.steps():
        pixels = scene_batch(rng, crops=step % 3 != 0)
        with torch.autocast("cpu", torch.bfloat16):
            loss = phase_loss(model, pixels, phase)
        run.descend(loss)


def phase_loss(model: AutoencoderTiny, pixels: torch.Tensor, phase: str) -> torch.Tensor:
    """What a phase minimises on pictures [B, 3, height, width]."""
    pixels = pixels.to(memory_format=torch.channels_last)
    if phase == "decoder":
        with torch.no_grad():
            latents = model.encode(pixels).latents.float()
        sigma = 0.15 * torch.rand(len(latents), 1, 1, 1)
    else:
        latents = model.encode(pixels).latents.float()
        sigma = torch.full((1, 1, 1, 1), 0.1)
    noisy = latents + sigma * torch.randn_like(latents)
    loss = reconstruction_loss(model.decode(noisy).sample.float(), pixels)
    if phase == "joint":
        loss = loss + 1e-3 * latents.pow(2).mean()
    return loss


@torch.no_grad()
def _sample(model: AutoencoderTiny, average: Average, path: Path) -> None:
    """Writes eight true scenes above their reconstructions, and prints the mean PSNR."""
    shown = build()
    shown.load_state_dict(model.state_dict())
    average.copy_to(shown)
    shown.eval()
    rng = random.Random(99)
    pixels = torch.stack([scene_pixels(rng) for _ in range(8)])
    made = shown.decode(shown.encode(pixels).latents).sample.clamp(-1, 1)
    psnr_db = -10 * ((made - pixels).div(2).pow(2).mean(dim=(1, 2, 3))).log10()
    print(f"vae psnr mean {psnr_db.mean():.1f} dB, lowest {psnr_db.min():.1f} dB", flush=True)
    rows = [torch.cat(list(batch), dim=2) for batch in (pixels, made)]
    sheet = torch.cat(rows, dim=1).add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(sheet)).save(path)


@torch.no_grad()
def fold(folder: Path, *, scene_count: int = 256) -> None:
    """Makes the averaged joint model's latents zero-mean and unit-variance by their weights."""
    model = build()
    state = torch.load(folder / "vae-joint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    model.load_state_dict(state["average"], strict=False)
    model.eval()
    rng = random.Random(4)
    normalise(
        model,
        [torch.stack([scene_pixels(rng) for _ in range(16)]) for _ in range(scene_count // 16)],
    )
    torch.save(model.state_dict(), folder / "vae-folded.pt")


@torch.no_grad()
def normalise(model: AutoencoderTiny, batches: list[torch.Tensor]) -> None:
    """Makes the model's latents of these pictures zero-mean and unit-variance, by its weights."""
    latents = torch.cat([model.encode(pixels).latents for pixels in batches])
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    print("latent mean", mean.tolist(), "std", std.tolist(), flush=True)
    last, first = model.encoder.layers[-1], model.decoder.layers[0]
    last.weight /= std[:, None, None, None]
    last.bias.copy_((last.bias - mean) / std)
    # Exact but for the decoder's soft clamp and its padding, which phase two makes good.
    first.bias += (first.weight.sum(dim=(2, 3)) * mean[None]).sum(dim=1)
    first.weight *= std[None, :, None, None]


def load(folder: Path) -> AutoencoderTiny:
    """The best autoencoder trained so far: phase two's average if there is one."""
    model = build()
    model.load_state_dict(torch.load(folder / "vae-folded.pt", weights_only=True))
    tuned = folder / "vae-decoder.pt"
    if tuned.exists():
        state = torch.load(tuned, weights_only=True)
        model.load_state_dict(state["average"], strict=False)
    return model.eval()
