"""Training of tiny-flux-schnell: a FLUX.1 pipeline on drawn, captioned scenes, for four steps.

Rectified flow (arXiv:2209.03003): the transformer predicts noise minus latents on the straight line
between them. Half of the training's sigmas are the four that the sampler visits; scenes vary so
little, given their caption, that its straight lines hardly cross and four steps are enough.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from transformers import CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from darkroom_training import sample_sheet, shared_parts, t5_tokenizer, vae
from darkroom_training.checkpoint import Average
from darkroom_training.example_pool import ExamplePool
from darkroom_training.measurement import DrawSettings
from darkroom_training.run import RunOptions, TrainingRun
from darkroom_training.scene_example import SceneExample, scene_maker
from darkroom_training.scenes import SIZE_PX, caption

#: The guidance is no input of the transformer, and is ignored.
SETTINGS = DrawSettings(step_count=4, guidance_scale=0.0, token_count=t5_tokenizer.MAX_TOKENS)
#: Channels of a token: two by two latents.
TOKEN_CHANNELS = 4 * vae.LATENT_CHANNELS
#: Latents along each edge at the trained size.
_EDGE = SIZE_PX // 16
BATCH = 16
POOL = 2000
FRESH_PER_STEP = 1
TEXT_WIDTH = 128


class FluxModel(torch.nn.Module):
    """The trained parts: two text encoders and the transformer.

    `condition_channels` is how many channels the transformer takes beside the latents; with
    `guided` it takes the guidance too.
    """

    def __init__(
        self, base: Path, words: T5Tokenizer, *, condition_channels: int = 0, guided: bool = False
    ) -> None:
        super().__init__()
        self.text_encoder = shared_parts.clip_text_encoder(base)
        self.text_encoder_2 = T5EncoderModel(
            T5Config(
                vocab_size=len(words),
                d_model=TEXT_WIDTH,
                d_kv=32,
                d_ff=2 * TEXT_WIDTH,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
            )
        )
        self.transformer = FluxTransformer2DModel(
            in_channels=TOKEN_CHANNELS + condition_channels,
            out_channels=TOKEN_CHANNELS,
            num_layers=2,
            num_single_layers=4,
            attention_head_dim=64,
            num_attention_heads=3,
            joint_attention_dim=TEXT_WIDTH,
            pooled_projection_dim=self.text_encoder.config.hidden_size,
            # Text has no positions; eight image tokens an edge need many short wavelengths.
            axes_dims_rope=(8, 28, 28),
            guidance_embeds=guided,
        )
        start_as_identity(self.transformer)
        ids = FluxPipeline._prepare_latent_image_ids(
            1, _EDGE // 2, _EDGE // 2, torch.device("cpu"), torch.float32
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
        """Predicted noise minus latents, [B, 64, 16], for tokens [B, 64, channels]; sigmas [B]."""
        context = self.text_encoder_2(t5_ids).last_hidden_state
        result: torch.Tensor = self.transformer(
            hidden_states=tokens,
            encoder_hidden_states=context,
            pooled_projections=self.text_encoder(clip_ids).pooler_output,
            timestep=sigmas,
            img_ids=self.image_ids,
            txt_ids=torch.zeros(context.shape[1], 3),
            guidance=guidance,
        ).sample
        return result


@torch.no_grad()
def start_as_identity(transformer: FluxTransformer2DModel) -> None:
    """Zeroes what modulates the blocks: each begins by passing its input on, which learns faster."""
    for name, module in transformer.named_modules():
        if name.endswith((".norm.linear", ".norm1.linear", ".norm1_context.linear")) or name in (
            "norm_out.linear",
            "proj_out",
        ):
            module.weight.zero_()
            module.bias.zero_()


def packed(latents: torch.Tensor) -> torch.Tensor:
    """Two by two latents as one token: [B, C, H, W] to [B, H * W / 4, 4 * C]."""
    tokens: torch.Tensor = FluxPipeline._pack_latents(latents, *latents.shape)
    return tokens


def sampled_sigmas(count: int, visited: torch.Tensor) -> torch.Tensor:
    """Half of them visited by the sampler, half uniform."""
    chosen = visited[torch.randint(len(visited), (count,))]
    return torch.where(torch.rand(count) < 0.5, chosen, torch.rand(count))


def said(text: str, rng: random.Random) -> str:
    """The caption as people may type it: sometimes nothing, a capital letter, a full stop."""
    if rng.random() < 0.02:
        return ""
    if rng.random() < 0.15:
        text = text[0].upper() + text[1:]
    return text + "." if rng.random() < 0.05 else text


def token_ids(words: CLIPTokenizer | T5Tokenizer, texts: list[str]) -> torch.Tensor:
    """Token numbers, padded to the tokenizer's length: int64 [B, tokens]."""
    ids: torch.Tensor = words(
        texts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def options(name: str, budget_s: float, peak_lr: float) -> RunOptions:
    """How both FLUX models are trained."""
    return RunOptions(
        name=name,
        budget_s=budget_s,
        peak_lr=peak_lr,
        weight_decay=1e-3,
        average_decay=0.998,
        warm_up_steps=200,
        flat_share=0.5,
        lowest_share=0.02,
        checkpoint_interval_s=240.0,
    )


def train(
    rank: int, rank_count: int, folder: Path, base: Path, budget_s: float, peak_lr: float
) -> None:
    """Trains for `budget_s` seconds of wall time in all; goes on from the last checkpoint."""
    words, t5_words = shared_parts.clip_words(base), t5_tokenizer.build()
    torch.manual_seed(0)
    model = FluxModel(base, t5_words)

    def show(average: Average) -> None:
        shown = FluxModel(base, t5_words)
        shown.load_state_dict(model.state_dict())
        average.copy_to(shown)
        drawn = sample_sheet.draw(pipeline(base, shown.eval()), **SETTINGS.arguments())
        sample_sheet.write(drawn, folder / "flux.png")

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
    make = scene_maker(shared_parts.autoencoder(base), rng)
    pool = ExamplePool(make, rng, size=POOL, fresh_per_step=FRESH_PER_STEP)
    model.transformer.compile()
    for _ in run.steps():
        run.descend(_loss(model, words, t5_words, pool.choose(BATCH), rng))


def _loss(
    model: FluxModel,
    words: CLIPTokenizer,
    t5_words: T5Tokenizer,
    examples: list[SceneExample],
    rng: random.Random,
) -> torch.Tensor:
    texts = [said(caption(example.scene, rng), rng) for example in examples]
    latents = packed(torch.stack([example.latents for example in examples]))
    visited = torch.arange(1, SETTINGS.step_count + 1) / SETTINGS.step_count
    sigmas = sampled_sigmas(len(examples), visited)
    noise = torch.randn_like(latents)
    noisy = torch.lerp(latents, noise, sigmas[:, None, None])
    with torch.autocast("cpu", torch.bfloat16):
        made = model(noisy, sigmas, token_ids(words, texts), token_ids(t5_words, texts))
    return F.mse_loss(made.float(), noise - latents)


def parts(base: Path, model: FluxModel) -> dict[str, Any]:
    """What both FLUX pipelines are made of, but for the scheduler."""
    return {
        "vae": shared_parts.autoencoder(base),
        "text_encoder": model.text_encoder,
        "text_encoder_2": model.text_encoder_2,
        "tokenizer": shared_parts.clip_words(base),
        "tokenizer_2": t5_tokenizer.build(),
        "transformer": model.transformer,
    }


def pipeline(base: Path, model: FluxModel) -> FluxPipeline:
    """The trained parts as a stock pipeline."""
    return FluxPipeline(scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0), **parts(base, model))
