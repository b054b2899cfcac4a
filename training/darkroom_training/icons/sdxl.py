"""Version 2 of tiny-sdxl: the UNet learns to draw what the text encoders plan.

As version 1 (`darkroom_training.sdxl`) it predicts v on the autoencoder's latents, one caption in twenty is
empty and one in twenty has its embeddings zeroed. The text encoders stay as `darkroom_training.icons.text`
taught them. The UNet asks them where it is cheap and enough: in the middle, and on the way up at 12x12.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

from darkroom_training import sdxl, vae
from darkroom_training.checkpoint import Average
from darkroom_training.icons import autoencoder, device, pool, sheets, text
from darkroom_training.icons.scenes import GRID_PX, SIZE_PX, Scene
from darkroom_training.measurement import DrawSettings
from darkroom_training.run import RunOptions, TrainingRun

SETTINGS = DrawSettings(step_count=20, guidance_scale=2.0)
BATCH = 32
_TIME_WIDTH = 32


class Denoiser(torch.nn.Module):
    """Text encoders, which are not trained here, and the UNet."""

    def __init__(self, words: CLIPTokenizer) -> None:
        super().__init__()
        self.texts = text.ClipTexts(words).requires_grad_(False)
        self.unet = UNet2DConditionModel(
            sample_size=SIZE_PX // GRID_PX,
            in_channels=vae.LATENT_CHANNELS,
            out_channels=vae.LATENT_CHANNELS,
            block_out_channels=(64, 128, 128),
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=text.WORD_WIDTH + text.PLAN_WIDTH,
            attention_head_dim=(2, 4, 4),
            use_linear_projection=True,
            norm_num_groups=16,
            resnet_time_scale_shift="scale_shift",
            addition_embed_type="text_time",
            addition_time_embed_dim=_TIME_WIDTH,
            projection_class_embeddings_input_dim=text.POOLED_WIDTH + 6 * _TIME_WIDTH,
        )

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        token_ids: torch.Tensor,
        zeroed: torch.Tensor,
    ) -> torch.Tensor:
        """Predicted v for latents [B, 4, 24, 24]; rows where `zeroed` [B] get zero embeddings."""
        with torch.no_grad():
            context, pooled, _ = self.texts(token_ids)
        keep = (~zeroed).to(context.dtype)
        size = torch.tensor([SIZE_PX, SIZE_PX, 0, 0, SIZE_PX, SIZE_PX], dtype=torch.float32)
        result: torch.Tensor = self.unet(
            latents,
            timesteps,
            encoder_hidden_states=context * keep[:, None, None],
            added_cond_kwargs={
                "text_embeds": pooled * keep[:, None],
                "time_ids": size.expand(len(latents), 6),
            },
        ).sample
        return result


def start(folder: Path) -> tuple[Denoiser, CLIPTokenizer]:
    """A fresh UNet with the text encoders of the folder."""
    planner, words = text.load("clip", folder)
    assert isinstance(words, CLIPTokenizer), "the CLIP planner has a CLIP tokenizer"
    model = Denoiser(words)
    model.texts.load_state_dict(planner.texts.state_dict())
    return model, words


def train(rank: int, rank_count: int, folder: Path, budget_s: float, peak_lr: float) -> None:
    """Trains for `budget_s` seconds in all; goes on from the last checkpoint."""
    torch.manual_seed(0)
    model, words = start(folder)
    scenes = pool.load(folder)
    sheet = sheets.Sheet(folder / "sdxl.png")

    def show(average: Average) -> None:
        if sheet.due():
            shown, _ = start(folder)
            shown.load_state_dict(model.state_dict())
            average.copy_to(shown)
            sheet.draw(pipeline(folder, shown.eval(), words), SETTINGS)

    run = TrainingRun(
        model,
        folder / "sdxl.pt",
        RunOptions(
            name="sdxl",
            budget_s=budget_s,
            peak_lr=peak_lr,
            weight_decay=1e-3,
            average_decay=0.998,
            warm_up_steps=200,
            flat_share=0.6,
            lowest_share=0.02,
            checkpoint_interval_s=240.0,
            cpu_time=True,
        ),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=show,
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    alphas = sdxl.alphas_cumprod()
    for _ in run.steps():
        run.descend(_loss(model, words, *scenes.choose(BATCH, rng), rng, alphas))


def _loss(
    model: Denoiser,
    words: CLIPTokenizer,
    chosen: list[Scene],
    latents: torch.Tensor,
    rng: random.Random,
    alphas: torch.Tensor,
) -> torch.Tensor:
    dropped = torch.rand(BATCH)
    prompts = [
        "" if share < 0.05 else text.prompt(scene, rng)
        for scene, share in zip(chosen, dropped, strict=True)
    ]
    timesteps = sdxl.sampled_timesteps(BATCH)
    alpha = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    noise = torch.randn_like(latents)
    with device.mixed(), device.attention():
        made = model(
            alpha * latents + sigma * noise,
            timesteps,
            text.token_ids(words, prompts),
            dropped > 0.95,
        )
    return F.mse_loss(made.float(), alpha * noise - sigma * latents)


def pipeline(folder: Path, model: Denoiser, words: CLIPTokenizer) -> Any:
    """The trained parts as a stock pipeline."""
    scheduler = EulerDiscreteScheduler(
        num_train_timesteps=sdxl.TRAIN_TIMESTEPS,
        beta_start=sdxl.BETA_START,
        beta_end=sdxl.BETA_END,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    return StableDiffusionXLPipeline(
        vae=autoencoder.load(folder),
        text_encoder=model.texts.text_encoder,
        text_encoder_2=model.texts.text_encoder_2,
        tokenizer=words,
        tokenizer_2=words,
        unet=model.unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
