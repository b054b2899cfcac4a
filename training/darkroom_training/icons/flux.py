"""Version 2 of tiny-flux-schnell: a FLUX.1 transformer that draws in four steps what T5 plans.

As version 1 (`darkroom_training.flux`) it is a rectified flow, trained half the time on the four sigmas that the
sampler visits. The text encoders stay as `darkroom_training.icons.text` taught them.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

from darkroom_training import flux, vae
from darkroom_training.checkpoint import Average
from darkroom_training.icons import autoencoder, device, pool, sheets, text
from darkroom_training.icons.scenes import GRID_PX, SIZE_PX
from darkroom_training.icons.tokenizers import MAX_TOKENS
from darkroom_training.measurement import DrawSettings
from darkroom_training.run import RunOptions, TrainingRun

SETTINGS = DrawSettings(step_count=4, guidance_scale=0.0, token_count=MAX_TOKENS)
TOKEN_CHANNELS = 4 * vae.LATENT_CHANNELS
BATCH = 32
_EDGE = SIZE_PX // GRID_PX // 2


class FluxModel(torch.nn.Module):
    """Text encoders, which are not trained here, and the transformer.

    `condition_channels` is how many channels the transformer takes beside the latents; with
    `guided` it takes the guidance too.
    """

    def __init__(
        self,
        clip: CLIPTextModel,
        t5: torch.nn.Module,
        *,
        condition_channels: int = 0,
        guided: bool = False,
    ) -> None:
        super().__init__()
        self.text_encoder = clip.requires_grad_(False)
        self.text_encoder_2 = t5.requires_grad_(False)
        self.transformer = FluxTransformer2DModel(
            in_channels=TOKEN_CHANNELS + condition_channels,
            out_channels=TOKEN_CHANNELS,
            num_layers=2,
            num_single_layers=4,
            attention_head_dim=64,
            num_attention_heads=3,
            joint_attention_dim=text.PLAN_WIDTH,
            pooled_projection_dim=text.WORD_WIDTH,
            axes_dims_rope=(8, 28, 28),
            guidance_embeds=guided,
        )
        flux.start_as_identity(self.transformer)
        ids = FluxPipeline._prepare_latent_image_ids(
            1, _EDGE, _EDGE, torch.get_default_device(), torch.float32
        )
        self.register_buffer("image_ids", ids, persistent=False)

    def forward(
        self,
        tokens: torch.Tensor,
        sigmas: torch.Tensor,
        clip_ids: torch.Tensor,
        t5_ids: torch.Tensor,
        guidance: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predicted noise minus latents, [B, 144, 16], for tokens [B, 144, channels]; sigmas [B]."""
        with torch.no_grad():
            context = self.text_encoder_2(t5_ids).last_hidden_state
            pooled = self.text_encoder(clip_ids).pooler_output
        result: torch.Tensor = self.transformer(
            hidden_states=tokens,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            timestep=sigmas,
            img_ids=self.image_ids,
            txt_ids=torch.zeros(context.shape[1], 3),
            guidance=guidance,
        ).sample
        return result


def start(
    folder: Path, *, condition_channels: int = 0, guided: bool = False
) -> tuple[FluxModel, CLIPTokenizer, T5Tokenizer]:
    """A fresh transformer with the text encoders of the folder."""
    clip_planner, words = text.load("clip", folder)
    t5_planner, t5_words = text.load("t5", folder)
    assert isinstance(words, CLIPTokenizer)
    assert isinstance(t5_words, T5Tokenizer)
    # T5 plans; of CLIP the transformer needs the pooled embedding only, so the small one is enough.
    model = FluxModel(
        clip_planner.texts.text_encoder,
        t5_planner.texts,
        condition_channels=condition_channels,
        guided=guided,
    )
    return model, words, t5_words


def options(name: str, budget_s: float, peak_lr: float) -> RunOptions:
    """How both FLUX models are trained."""
    return RunOptions(
        name=name,
        budget_s=budget_s,
        peak_lr=peak_lr,
        weight_decay=1e-3,
        average_decay=0.998,
        warm_up_steps=200,
        flat_share=0.6,
        lowest_share=0.02,
        checkpoint_interval_s=240.0,
        cpu_time=True,
        muon=True,
    )


def train(rank: int, rank_count: int, folder: Path, budget_s: float, peak_lr: float) -> None:
    """Trains for `budget_s` seconds in all; goes on from the last checkpoint."""
    torch.manual_seed(0)
    model, words, t5_words = start(folder)
    scenes = pool.load(folder)
    sheet = sheets.Sheet(folder / "flux.png")

    def show(average: Average) -> None:
        if sheet.due():
            shown, _, _ = start(folder)
            shown.load_state_dict(model.state_dict())
            average.copy_to(shown)
            sheet.draw(pipeline(folder, shown.eval(), words, t5_words), SETTINGS)

    run = TrainingRun(
        model,
        folder / "flux.pt",
        options("flux", budget_s, peak_lr),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=show,
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    visited = torch.arange(1, SETTINGS.step_count + 1) / SETTINGS.step_count
    model.transformer.compile()
    for _ in run.steps():
        chosen, latents = scenes.choose(BATCH, rng)
        prompts = ["" if rng.random() < 0.02 else text.prompt(scene, rng) for scene in chosen]
        tokens = flux.packed(latents)
        sigmas = flux.sampled_sigmas(BATCH, visited)
        noise = torch.randn_like(tokens)
        with device.mixed():
            made = model(
                torch.lerp(tokens, noise, sigmas[:, None, None]),
                sigmas,
                text.token_ids(words, prompts),
                text.token_ids(t5_words, prompts),
            )
        run.descend(F.mse_loss(made.float(), noise - tokens))


def parts(
    folder: Path, model: FluxModel, words: CLIPTokenizer, t5_words: T5Tokenizer
) -> dict[str, Any]:
    """What both FLUX pipelines are made of, but for the scheduler."""
    return {
        "vae": autoencoder.load(folder),
        "text_encoder": model.text_encoder,
        "text_encoder_2": model.text_encoder_2,
        "tokenizer": words,
        "tokenizer_2": t5_words,
        "transformer": model.transformer,
    }


def pipeline(folder: Path, model: FluxModel, words: CLIPTokenizer, t5_words: T5Tokenizer) -> Any:
    """The trained parts as a stock pipeline."""
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        **parts(folder, model, words, t5_words),
    )
