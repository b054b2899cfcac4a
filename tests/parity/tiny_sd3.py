"""Small Stable Diffusion 3 pipelines with random weights, built without any download."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

from tests.parity.device import placed
from tests.parity.tiny_flux import byte_t5_tokenizer
from tests.parity.tiny_pipelines import byte_tokenizer, text_config


def random_sd3(
    folder: Path, *, has_t5: bool = True, dynamic: bool = False
) -> StableDiffusion3Pipeline:
    """The VAE has factor 8 and samples; `dynamic` sigmas depend on the size."""
    torch.manual_seed(0)
    words = byte_tokenizer(folder)
    pipeline = StableDiffusion3Pipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=0.7,
            shift_factor=0.1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=CLIPTextModelWithProjection(text_config(words)),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(text_config(words)),
        tokenizer_2=words,
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=258, d_model=64, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        ).eval()
        if has_t5
        else None,
        tokenizer_3=byte_t5_tokenizer() if has_t5 else None,
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            pos_embed_max_size=16,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic),
    )
    return placed(pipeline)
