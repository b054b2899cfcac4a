"""Parts of small pipelines of several models in a row, and of those with guiders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKLHunyuanImage,
    BriaFiboTransformer2DModel,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanImageTransformer2DModel,
    PriorTransformer,
    UnCLIPScheduler,
    UNet2DConditionModel,
)
from diffusers.guiders import AdaptiveProjectedMixGuidance
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from tests.parity.kits.text_parts import clip, decoder, qwen_vl, t5, words
from tests.parity.kits.transformer_kits import wan_kl
from tests.parity.kits.unet_kits import movq


def kandinsky22(class_name: str, folder: Path) -> dict[str, Any]:
    """Kandinsky 2.2 with its prior."""
    prior = clip(folder, has_projection=True)
    return {
        "unet": UNet2DConditionModel(
            in_channels=9 if "Inpaint" in class_name else 4,
            out_channels=8,
            addition_embed_type="image",
            down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
            up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
            mid_block_type="UNetMidBlock2DSimpleCrossAttn",
            block_out_channels=(16, 32),
            layers_per_block=1,
            norm_num_groups=8,
            encoder_hid_dim=32,
            encoder_hid_dim_type="image_proj",
            cross_attention_dim=32,
            attention_head_dim=4,
            resnet_time_scale_shift="scale_shift",
        ),
        "scheduler": DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        "movq": movq(),
        "prior_prior": PriorTransformer(
            num_attention_heads=2,
            attention_head_dim=12,
            embedding_dim=32,
            num_layers=1,
            num_embeddings=24,
        ),
        "prior_image_encoder": _image_encoder(),
        "prior_text_encoder": prior["text_encoder"],
        "prior_tokenizer": prior["tokenizer"],
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            clip_sample=True,
            clip_sample_range=5.0,
        ),
        "prior_image_processor": CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    }


def _image_encoder() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=1,
            image_size=32,
            patch_size=16,
        )
    ).eval()


def bria_fibo(class_name: str, folder: Path) -> dict[str, Any]:
    """Bria's FIBO, which gives an empty text a token of its own far up in the vocabulary."""
    del class_name, folder
    return {
        "tokenizer": words(),
        "text_encoder": decoder("smollm3", vocab_size=128_100),
        "vae": wan_kl(),
        "transformer": BriaFiboTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=64,
            axes_dims_rope=[4, 4, 8],
            text_encoder_dim=32,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    }


def hunyuan_image(class_name: str, folder: Path) -> dict[str, Any]:
    """Hunyuan-Image 2.1, with its guiders."""
    del class_name, folder
    return t5("_2") | {
        "tokenizer": words(is_chat=True),
        "text_encoder": qwen_vl(),
        "vae": AutoencoderKLHunyuanImage(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            block_out_channels=(32, 32, 32, 32),
            layers_per_block=1,
            spatial_compression_ratio=8,
            sample_size=64,
            scaling_factor=0.5,
        ),
        "transformer": HunyuanImageTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            text_embed_dim=32,
            text_embed_2_dim=32,
            rope_axes_dim=(8, 8),
        ),
        "guider": AdaptiveProjectedMixGuidance(enabled=False),
        "ocr_guider": AdaptiveProjectedMixGuidance(enabled=False),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }
