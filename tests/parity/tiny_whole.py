"""Small pipelines to be run whole, with random weights, built without download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

from tests.parity.device import placed
from tests.parity.tiny_flux import byte_t5_tokenizer
from tests.parity.tiny_pipelines import byte_tokenizer


def random_lcm(folder: Path) -> LatentConsistencyModelPipeline:
    """Tells of its steps by `callback_on_step_end`; takes no negative prompt."""
    parts = _clip_parts(folder, unet_channels=4, time_cond_proj_dim=16)
    scheduler = LCMScheduler(beta_schedule="scaled_linear")
    return placed(LatentConsistencyModelPipeline(**parts, scheduler=scheduler))


def random_inpainting(folder: Path) -> StableDiffusionInpaintPipeline:
    """Nine UNet channels; the VAE samples."""
    parts = _clip_parts(folder, unet_channels=9, time_cond_proj_dim=None)
    scheduler = DPMSolverMultistepScheduler(beta_schedule="scaled_linear", steps_offset=1)
    return placed(StableDiffusionInpaintPipeline(**parts, scheduler=scheduler))


def random_pixart() -> PixArtSigmaPipeline:
    """Tells of its steps by `callback`; makes 256 x 256 px and scales them to what is asked for."""
    torch.manual_seed(0)
    return placed(
        PixArtSigmaPipeline(
            tokenizer=byte_t5_tokenizer(),
            text_encoder=T5EncoderModel(
                T5Config(vocab_size=258, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
            ).eval(),
            vae=_vae(),
            transformer=PixArtTransformer2DModel(
                sample_size=32,
                num_attention_heads=2,
                attention_head_dim=8,
                in_channels=4,
                out_channels=8,
                num_layers=1,
                cross_attention_dim=16,
                caption_channels=32,
                use_additional_conditions=False,
            ),
            scheduler=DPMSolverMultistepScheduler(),
        )
    )


def random_qwen() -> QwenImagePipeline:
    """Guides by its `true_cfg_scale`, and only where there is a negative prompt."""
    torch.manual_seed(0)
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": 258,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default"},
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_heads": 2,
                "out_hidden_size": 16,
            },
        )
    )
    return placed(
        QwenImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=AutoencoderKLQwenImage(
                base_dim=8,
                z_dim=4,
                dim_mult=[1, 2, 4],
                num_res_blocks=1,
                temperal_downsample=[False, True],
                latents_mean=[0.0] * 4,
                latents_std=[1.0] * 4,
            ),
            text_encoder=text_encoder.eval(),
            tokenizer=byte_t5_tokenizer(),
            transformer=QwenImageTransformer2DModel(
                patch_size=2,
                in_channels=16,
                out_channels=4,
                num_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=16,
                axes_dims_rope=(8, 4, 4),
            ),
        )
    )


def _clip_parts(
    folder: Path, *, unet_channels: int, time_cond_proj_dim: int | None
) -> dict[str, Any]:
    torch.manual_seed(0)
    words = byte_tokenizer(folder)
    return {
        "vae": _vae(),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=24,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )
        ),
        "tokenizer": words,
        "unet": UNet2DConditionModel(
            sample_size=8,
            in_channels=unet_channels,
            out_channels=4,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            time_cond_proj_dim=time_cond_proj_dim,
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.5,
    )
