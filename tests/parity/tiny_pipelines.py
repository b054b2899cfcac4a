"""Small pipelines with a UNet and random weights, built without any download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from tests.parity.device import placed


def byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer that knows single bytes only."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        model_max_length=24,
        pad_token="<|endoftext|>",
    )


def random_sdxl(
    folder: Path, *, unet_channels: int = 4, has_statistics: bool = False
) -> StableDiffusionXLPipeline:
    """An SDXL pipeline (9 UNet channels: an inpainting one); the VAE has factor 8 and samples.

    With `has_statistics` it knows the mean and the deviation of its latents.
    """
    torch.manual_seed(0)
    words = byte_tokenizer(folder)
    parts = {
        "vae": _vae(has_statistics=has_statistics),
        "text_encoder": CLIPTextModel(text_config(words)),
        "text_encoder_2": CLIPTextModelWithProjection(text_config(words)),
        "tokenizer": words,
        "tokenizer_2": words,
        "unet": _unet(
            unet_channels,
            cross_attention_dim=64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
        ),
        "scheduler": EulerDiscreteScheduler(beta_schedule="scaled_linear"),
    }
    kind = StableDiffusionXLPipeline if unet_channels == 4 else StableDiffusionXLInpaintPipeline
    pipeline = kind(**parts, force_zeros_for_empty_prompt=True, add_watermarker=False)
    return placed(pipeline)


def random_sd(
    folder: Path, *, prediction: str = "epsilon", unet_channels: int = 4, checked: bool = False
) -> StableDiffusionPipeline:
    """Stable Diffusion 1, or 2 by `v_prediction`; 9 UNet channels: an inpainting one.

    With `checked` a safety checker looks at the images.
    """
    torch.manual_seed(0)
    words = byte_tokenizer(folder)
    kind = StableDiffusionPipeline if unet_channels == 4 else StableDiffusionInpaintPipeline
    pipeline = kind(
        vae=_vae(),
        text_encoder=CLIPTextModel(text_config(words)),
        tokenizer=words,
        unet=_unet(unet_channels, cross_attention_dim=32),
        # As published: with settings of other schedulers too, which they take over.
        scheduler=PNDMScheduler.from_config(
            {
                "beta_schedule": "scaled_linear",
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "clip_sample": False,
                "prediction_type": prediction,
                "set_alpha_to_one": False,
                "skip_prk_steps": True,
                "steps_offset": 1,
            }
        ),
        safety_checker=_safety_checker() if checked else None,
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        )
        if checked
        else None,
        requires_safety_checker=False,
    )
    return placed(pipeline)


def _safety_checker() -> StableDiffusionSafetyChecker:
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    return StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision.to_dict(), projection_dim=8)
    ).eval()


def text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    """Of a small CLIP text encoder."""
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=24,
        projection_dim=32,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def _vae(*, has_statistics: bool = False) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
        latents_mean=[-1.6, 0.7, 0.2, 2.1] if has_statistics else None,
        latents_std=[8.4, 5.9, 4.3, 5.4] if has_statistics else None,
    )


def _unet(channels: int, **differences: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        norm_num_groups=8,
        **differences,
    )
