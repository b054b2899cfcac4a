"""Training of tiny-sdxl: a StableDiffusionXL pipeline from scratch on drawn, captioned scenes.

The two text encoders and the UNet learn together to predict v (arXiv:2202.00512, appendix D) on the
autoencoder's latents; one caption in twenty is empty and one in twenty has its embeddings zeroed,
which are the two forms an absent negative prompt takes in the pipeline.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from darkroom_training import sample_sheet, tokenizer, vae
from darkroom_training.checkpoint import Average
from darkroom_training.example_pool import ExamplePool
from darkroom_training.run import RunOptions, TrainingRun
from darkroom_training.scene_example import SceneExample, scene_maker
from darkroom_training.scenes import SIZE_PX, caption

TRAIN_TIMESTEPS = 1000
BETA_START, BETA_END = 0.00085, 0.02
BATCH = 16
POOL = 3000
FRESH_PER_STEP = 2


class Denoiser(torch.nn.Module):
    """The trained parts: two text encoders and the UNet."""

    def __init__(self, words: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(_text_config(words, hidden=64))
        self.text_encoder_2 = CLIPTextModelWithProjection(_text_config(words, hidden=128))
        self.unet = UNet2DConditionModel(
            sample_size=SIZE_PX // 16,
            in_channels=vae.LATENT_CHANNELS,
            out_channels=vae.LATENT_CHANNELS,
            block_out_channels=(64, 128),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=64 + 128,
            attention_head_dim=(2, 4),
            use_linear_projection=True,
            norm_num_groups=16,
            addition_embed_type="text_time",
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=128 + 6 * 32,
        )

    def forward(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        token_ids: torch.Tensor,
        zeroed: torch.Tensor,
    ) -> torch.Tensor:
        """Predicted v for latents [B, 4, 16, 16]; rows where `zeroed` [B] get zero embeddings."""
        first = self.text_encoder(token_ids, output_hidden_states=True)
        second = self.text_encoder_2(token_ids, output_hidden_states=True)
        context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        keep = (~zeroed).to(context.dtype)
        size = torch.tensor([SIZE_PX, SIZE_PX, 0, 0, SIZE_PX, SIZE_PX], dtype=torch.float32)
        result: torch.Tensor = self.unet(
            latents,
            timesteps,
            encoder_hidden_states=context * keep[:, None, None],
            added_cond_kwargs={
                "text_embeds": second.text_embeds * keep[:, None],
                "time_ids": size.expand(len(latents), 6),
            },
        ).sample
        return result


def _text_config(words: CLIPTokenizer, *, hidden: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=3,
        num_attention_heads=hidden // 32,
        max_position_embeddings=tokenizer.MAX_TOKENS,
        projection_dim=128,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def alphas_cumprod() -> torch.Tensor:
    """What of a picture's variance is left at each timestep: [1000]."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS) ** 2
    return torch.cumprod(1 - betas, dim=0)


def sampled_timesteps(count: int) -> torch.Tensor:
    """Half uniform, half gathered where layout and outline are decided."""
    uniform = torch.rand(count)
    middle = torch.sigmoid(0.3 + torch.randn(count))
    share = torch.where(torch.rand(count) < 0.5, uniform, middle)
    return (share * TRAIN_TIMESTEPS).long().clamp(0, TRAIN_TIMESTEPS - 1)


def train(rank: int, rank_count: int, folder: Path, budget_s: float, peak_lr: float) -> None:
    """Trains for `budget_s` seconds of wall time in all; goes on from the last checkpoint."""
    words = tokenizer.load_or_build(folder / f"tokenizer-{rank}")
    torch.manual_seed(0)
    model = Denoiser(words)
    run = TrainingRun(
        model,
        folder / "sdxl.pt",
        RunOptions(
            name="sdxl",
            budget_s=budget_s,
            peak_lr=peak_lr,
            weight_decay=1e-3,
            average_decay=0.999,
            warm_up_steps=200,
            flat_share=0.5,
            lowest_share=0.02,
            checkpoint_interval_s=240.0,
        ),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=lambda average: sample(folder, model, average, words),
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    make = scene_maker(vae.load(folder), rng)
    pool = ExamplePool(make, rng, size=POOL, fresh_per_step=FRESH_PER_STEP)
    alphas = alphas_cumprod()
    for _ in run.steps():
        run.descend(_loss(model, words, pool.choose(BATCH), rng, alphas))


def _loss(
    model: Denoiser,
    words: CLIPTokenizer,
    examples: list[SceneExample],
    rng: random.Random,
    alphas: torch.Tensor,
) -> torch.Tensor:
    latents = torch.stack([example.latents for example in examples])
    dropped = torch.rand(BATCH)
    captions = [
        "" if dropped[k] < 0.05 else caption(example.scene, rng)
        for k, example in enumerate(examples)
    ]
    token_ids = words(
        captions,
        padding="max_length",
        max_length=tokenizer.MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    timesteps = sampled_timesteps(BATCH)
    alpha = alphas[timesteps].sqrt()[:, None, None, None]
    sigma = (1 - alphas[timesteps]).sqrt()[:, None, None, None]
    noise = torch.randn_like(latents)
    wanted = alpha * noise - sigma * latents
    with torch.autocast("cpu", torch.bfloat16):
        made = model(alpha * latents + sigma * noise, timesteps, token_ids, dropped > 0.95)
    return F.mse_loss(made.float(), wanted)


def pipeline(folder: Path, model: Denoiser, words: CLIPTokenizer) -> StableDiffusionXLPipeline:
    """The trained parts as a stock pipeline."""
    scheduler = EulerDiscreteScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    return StableDiffusionXLPipeline(
        vae=vae.load(folder),
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=words,
        tokenizer_2=words,
        unet=model.unet,
        scheduler=scheduler,
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def sample(folder: Path, model: Denoiser, average: Average, words: CLIPTokenizer) -> None:
    """Writes a sheet of the sample prompts as the averaged model draws them now."""
    shown = Denoiser(words).eval()
    shown.load_state_dict(model.state_dict())
    average.copy_to(shown)
    drawn = sample_sheet.draw(
        pipeline(folder, shown, words), num_inference_steps=16, guidance_scale=2.5
    )
    sample_sheet.write(drawn, folder / "sdxl.png")
