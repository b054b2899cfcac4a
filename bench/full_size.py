"""SDXL and FLUX.1 schnell at their published sizes, with random weights: speed is theirs.

Sizes are those of the models' own `config.json` files. What is not measured is small: FLUX's T5
encoder has one layer. Tokenizers are the embedded models', padded to the published length.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

MODELS = Path(__file__).parents[1] / "model_repo"
#: Tokens that CLIP's encoders take, and schnell's T5.
CLIP_TOKENS, T5_TOKENS = 77, 256

UNET: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "projection_dim": 768,
}
CLIP_G: dict[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
FLUX: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": False,
    "axes_dims_rope": (16, 56, 56),
}


def sdxl(device: torch.device, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """SDXL 1.0 base: 2.6 billion parameters in its UNet."""
    words = _clip_tokenizer("tiny-sdxl")
    with _made(device, dtype):
        parts = {
            "text_encoder": CLIPTextModel(_clip_config(words, CLIP_L)),
            "text_encoder_2": CLIPTextModelWithProjection(_clip_config(words, CLIP_G)),
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(latent_channels=4, scaling_factor=0.13025, **VAE),
        }
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    pipeline = StableDiffusionXLPipeline(
        **parts, tokenizer=words, tokenizer_2=words, scheduler=scheduler, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def flux_schnell(device: torch.device, dtype: torch.dtype) -> FluxPipeline:
    """FLUX.1 schnell: 12 billion parameters in its transformer."""
    words = _clip_tokenizer("tiny-flux-schnell")
    letters = PreTrainedTokenizerFast.from_pretrained(
        MODELS / "tiny-flux-schnell" / "1" / "tokenizer_2", model_max_length=T5_TOKENS
    )
    with _made(device, dtype):
        parts = {
            "text_encoder": CLIPTextModel(_clip_config(words, CLIP_L)),
            "text_encoder_2": T5EncoderModel(
                T5Config(
                    vocab_size=len(letters),
                    d_model=FLUX["joint_attention_dim"],
                    num_layers=1,
                    feed_forward_proj="gated-gelu",
                )
            ).eval(),
            "transformer": FluxTransformer2DModel(**FLUX),
            "vae": AutoencoderKL(
                latent_channels=FLUX["in_channels"] // 4,
                scaling_factor=0.3611,
                shift_factor=0.1159,
                use_quant_conv=False,
                use_post_quant_conv=False,
                **VAE,
            ),
        }
    pipeline = FluxPipeline(
        **parts,
        tokenizer=words,
        tokenizer_2=letters,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def _made(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules made within are of a dtype and on a device, and always the same."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def _clip_tokenizer(model: str) -> CLIPTokenizer:
    folder = MODELS / model / "1" / "tokenizer"
    words: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=CLIP_TOKENS)
    return words


def _clip_config(words: CLIPTokenizer, size: dict[str, Any]) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=CLIP_TOKENS,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **size,
    )
