"""`python -m darkroom_training.icons.adapters`: a small adapter of tiny-sdxl, in minutes.

A style, `grayscale`: everything in shades of grey. Low-rank pairs beside the UNet's attention and
convolutions learn to predict v of scenes that are drawn so, from captions that say nothing of it.
Written as diffusers writes adapters.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from darkroom_training.icons.captions import caption
from darkroom_training.icons.scenes import SIZE_PX, Pixels, draw, random_scene
from darkroom_training.icons.stamps import StampBook
from darkroom_training.scene_example import as_tensor
from darkroom_training.sdxl import alphas_cumprod, sampled_timesteps

RANK = 4
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out"]
BATCH, SCENES, LEARNING_RATE = 8, 512, 4e-3
#: Examples that are trained without a text, as guidance evaluates them.
WITHOUT_TEXT_SHARE = 0.1

#: A scene's picture and its caption.
Drawing = tuple[Pixels, str]


def grayscale(rng: random.Random, book: StampBook) -> Drawing:
    """Any scene, in shades of grey."""
    scene = random_scene(rng)
    grey = draw(scene, rng, book).astype(np.float32) @ np.array([0.3, 0.59, 0.11], np.float32)
    return np.repeat(grey[:, :, None], 3, axis=2).round().astype(np.uint8), caption(scene, rng)


SUBJECTS: dict[str, Callable[[random.Random, StampBook], Drawing]] = {"grayscale": grayscale}


@dataclass(frozen=True, slots=True)
class Examples:
    """Latents [N, 4, 24, 24], and of their captions the embeddings that the UNet reads."""

    latents: torch.Tensor
    context: torch.Tensor
    pooled: torch.Tensor


@torch.no_grad()
def examples(pipeline: StableDiffusionXLPipeline, subject: str, book: StampBook) -> Examples:
    """Drawings of a subject as the UNet sees them."""
    rng = random.Random(subject)
    drawn = [SUBJECTS[subject](rng, book) for _ in range(SCENES)]
    latents, contexts, pools = [], [], []
    for first in range(0, SCENES, BATCH):
        some = drawn[first : first + BATCH]
        latents.append(pipeline.vae.encode(torch.stack([as_tensor(p) for p, _ in some])).latents)
        context, _, pooled, _ = pipeline.encode_prompt(
            [text for _, text in some], do_classifier_free_guidance=False
        )
        contexts.append(context)
        pools.append(pooled)
    return Examples(torch.cat(latents), torch.cat(contexts), torch.cat(pools))


def loss(unet: torch.nn.Module, known: Examples, alphas: torch.Tensor) -> torch.Tensor:
    """Of a few examples, at timesteps of the base model's training."""
    chosen = torch.randint(0, SCENES, (BATCH,))
    latents, timesteps = known.latents[chosen], sampled_timesteps(BATCH)
    alpha = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    noise = torch.randn_like(latents)
    keep = (torch.rand(BATCH) >= WITHOUT_TEXT_SHARE).float()
    size = torch.tensor([SIZE_PX, SIZE_PX, 0, 0, SIZE_PX, SIZE_PX], dtype=torch.float32)
    made: torch.Tensor = unet(
        alpha * latents + sigma * noise,
        timesteps,
        encoder_hidden_states=known.context[chosen] * keep[:, None, None],
        added_cond_kwargs={
            "text_embeds": known.pooled[chosen] * keep[:, None],
            "time_ids": size.expand(BATCH, 6),
        },
    ).sample
    return F.mse_loss(made, alpha * noise - sigma * latents)


def train(
    base: Path, folder: Path, book: StampBook, subject: str, *, step_count: int, budget_s: float
) -> Path:
    """Trains until the steps or the seconds are over; the adapter's file."""
    torch.manual_seed(0)
    pipeline = StableDiffusionXLPipeline.from_pretrained(base, torch_dtype=torch.float32)
    known = examples(pipeline, subject, book)
    unet = pipeline.unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    trained = [one for one in unet.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=1e-3)
    alphas, started_s, mean = alphas_cumprod(), time.monotonic(), 0.0
    for step in range(step_count):
        progress = max(step / step_count, (time.monotonic() - started_s) / budget_s)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * progress))
        value = loss(unet, known, alphas)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        mean = value.item() if step == 0 else 0.98 * mean + 0.02 * value.item()
        if step % 50 == 0:
            print(f"{subject} step {step}: loss {mean:.4f}", flush=True)
    layers = {n: t.half() for n, t in get_peft_model_state_dict(unet).items()}
    target = folder / subject / "1"
    pipeline.save_lora_weights(
        target, unet_lora_layers=layers, weight_name=f"{subject}.safetensors"
    )
    print(f"{subject}: {step} steps, loss {mean:.4f}, {time.monotonic() - started_s:.0f} s")
    return target / f"{subject}.safetensors"


def main() -> None:
    """Trains the adapters that are named."""
    parser = argparse.ArgumentParser(prog="darkroom_training.icons.adapters", description=__doc__)
    parser.add_argument("subject", nargs="*", help=f"{', '.join(SUBJECTS)}; all if none is named")
    parser.add_argument("--training", type=Path, default=Path("build/training-icons"))
    parser.add_argument("--base", type=Path, default=Path("model_repo/tiny-sdxl/2"))
    parser.add_argument("--folder", type=Path, default=Path("model_repo/tiny-sdxl/adapters"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--budget-s", type=float, default=600.0, help="seconds for each")
    args = parser.parse_args()
    book = StampBook(args.training / "icons")
    for subject in args.subject or SUBJECTS:
        train(args.base, args.folder, book, subject, step_count=args.steps, budget_s=args.budget_s)


if __name__ == "__main__":
    main()
