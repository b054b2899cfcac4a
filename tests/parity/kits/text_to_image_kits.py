"""Parts of small pipelines that have kinds of transformers of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    CogView3PlusTransformer2DModel,
    CogView4Transformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanDiT2DControlNetModel,
    HunyuanDiT2DModel,
    Kandinsky3UNet,
    Lumina2Transformer2DModel,
    LuminaNextDiT2DModel,
    PixArtTransformer2DModel,
    SanaControlNetModel,
    SanaTransformer2DModel,
    SCMScheduler,
)

from tests.parity.kits.text_parts import bert, decoder, t5, umt5, words
from tests.parity.kits.transformer_kits import shifted_kl
from tests.parity.kits.unet_kits import kl, movq

_HEADS = {"attention_head_dim": 8, "num_attention_heads": 2}


def aura_flow(class_name: str, folder: Path) -> dict[str, Any]:
    """AuraFlow."""
    del class_name, folder
    return umt5() | {
        "vae": kl(),
        "transformer": AuraFlowTransformer2DModel(
            **_HEADS,
            sample_size=16,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pos_embed_max_size=256,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=1.73),
    }


def pixart(class_name: str, folder: Path) -> dict[str, Any]:
    """PixArt alpha and sigma; no size that has bins."""
    del class_name, folder
    return t5() | {
        "vae": kl(),
        "transformer": PixArtTransformer2DModel(
            **_HEADS,
            sample_size=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            cross_attention_dim=16,
            caption_channels=32,
            use_additional_conditions=False,
        ),
        "scheduler": DPMSolverMultistepScheduler(),
        "pag_applied_layers": "blocks.1",
    }


def sana(class_name: str, folder: Path) -> dict[str, Any]:
    """Sana and its fast ones."""
    del folder
    is_sprint = "Sprint" in class_name
    shape: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 4,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 4,
        "cross_attention_dim": 8,
        "caption_channels": 32,
        "sample_size": 16,
    }
    guided = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"} if is_sprint else {}
    flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return {
        "tokenizer": words(),
        "text_encoder": decoder("gemma2"),
        "vae": AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            scaling_factor=0.41407,
        ),
        "transformer": SanaTransformer2DModel(**shape, **guided, num_layers=2),
        "controlnet": SanaControlNetModel(**shape, num_layers=1),
        "scheduler": SCMScheduler() if is_sprint else flow,
        "pag_applied_layers": "blocks.0",
    }


def lumina(class_name: str, folder: Path) -> dict[str, Any]:
    """Lumina-Next."""
    del class_name, folder
    return {
        "tokenizer": words(),
        "text_encoder": decoder("gemma"),
        "vae": kl(),
        "transformer": LuminaNextDiT2DModel(
            sample_size=4,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            cross_attention_dim=32,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }


def lumina2(class_name: str, folder: Path) -> dict[str, Any]:
    """Lumina-Image 2."""
    del class_name, folder
    return {
        "tokenizer": words(),
        "text_encoder": decoder("gemma2"),
        "vae": shifted_kl(),
        "transformer": Lumina2Transformer2DModel(
            sample_size=4,
            in_channels=4,
            hidden_size=16,
            num_layers=2,
            num_refiner_layers=1,
            num_attention_heads=2,
            num_kv_heads=1,
            multiple_of=16,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(512, 64, 64),
            cap_feat_dim=32,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }


def cogview3(class_name: str, folder: Path) -> dict[str, Any]:
    """CogView3+."""
    del class_name, folder
    return t5() | {
        "vae": kl(),
        "transformer": CogView3PlusTransformer2DModel(
            **_HEADS,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=2,
            pos_embed_max_size=16,
            sample_size=8,
        ),
        "scheduler": DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
    }


def cogview4(class_name: str, folder: Path) -> dict[str, Any]:
    """CogView4."""
    del folder
    return {
        "tokenizer": words(),
        "text_encoder": decoder("glm"),
        "vae": shifted_kl(),
        "transformer": CogView4Transformer2DModel(
            **_HEADS,
            in_channels=8 if "Control" in class_name else 4,
            out_channels=4,
            num_layers=2,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=4,
            rope_axes_dim=(16, 16),
            sample_size=8,
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(
            base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
        ),
    }


def hunyuan_dit(class_name: str, folder: Path) -> dict[str, Any]:
    """Hunyuan-DiT."""
    del class_name, folder
    shape: dict[str, Any] = {
        "sample_size": 16,
        "patch_size": 2,
        "in_channels": 4,
        "hidden_size": 24,
        "attention_head_dim": 8,
        "num_attention_heads": 3,
        "cross_attention_dim": 32,
        "cross_attention_dim_t5": 32,
        "pooled_projection_dim": 16,
        "activation_fn": "gelu-approximate",
    }
    return t5("_2") | {
        "tokenizer": words(),
        "text_encoder": bert(),
        "vae": kl(),
        "transformer": HunyuanDiT2DModel(**shape, num_layers=4),
        "controlnet": HunyuanDiT2DControlNetModel(**shape, transformer_num_layers=4),
        "scheduler": DDPMScheduler(),
        "requires_safety_checker": False,
        "pag_applied_layers": "blocks.1",
    }


def kandinsky3(class_name: str, folder: Path) -> dict[str, Any]:
    """Kandinsky 3."""
    del class_name, folder
    return t5() | {
        "movq": movq(),
        "unet": Kandinsky3UNet(
            time_embedding_dim=16,
            groups=2,
            attention_head_dim=4,
            layers_per_block=2,
            block_out_channels=(16, 16, 16, 16),
            cross_attention_dim=16,
            encoder_hid_dim=32,
        ),
        "scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    }
