"""Parts of small pipelines with a UNet, for every class of their kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    ControlNetUnionModel,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    T2IAdapter,
    UNet2DConditionModel,
    VQModel,
)
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessorPil

from tests.parity.kits.text_parts import clip, t5

_UNET: dict[str, Any] = {
    "sample_size": 8,
    "out_channels": 4,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
}
_ADDED: dict[str, Any] = {
    "cross_attention_dim": 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "use_linear_projection": True,
}


def kl(latent_channels: int = 4, **differences: Any) -> AutoencoderKL:
    """An autoencoder of factor 8 that samples."""
    settings: dict[str, Any] = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 4,
        "scaling_factor": 0.5,
    }
    return AutoencoderKL(latent_channels=latent_channels, **(settings | differences))


def _input_channels(class_name: str) -> int:
    """Latents, and what stands beside them."""
    if "Pix2Pix" in class_name:
        return 8
    if "Depth2Img" in class_name:
        return 5
    if "Upscale" in class_name:
        return 7
    return 9 if "Inpaint" in class_name and "ControlNet" not in class_name else 4


def sd(class_name: str, folder: Path) -> dict[str, Any]:
    """Stable Diffusion 1 and 2, and what is made of it."""
    unet = _UNET | {"cross_attention_dim": 32, "in_channels": _input_channels(class_name)}
    if "LatentConsistency" in class_name:
        unet["time_cond_proj_dim"] = 16
    if "Upscale" in class_name:
        unet["num_class_embeds"] = 100
    consistent = LCMScheduler(beta_schedule="scaled_linear")
    usual = DPMSolverMultistepScheduler(beta_schedule="scaled_linear", steps_offset=1)
    # The one that it takes; without noise in the last step it divides by zero.
    noisy = DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False)
    return clip(folder) | {
        "vae": kl(),
        "unet": UNet2DConditionModel(**unet),
        "scheduler": noisy if "Cycle" in class_name else usual,
        "low_res_scheduler": DDPMScheduler(beta_schedule="scaled_linear"),
        "controlnet": _controlnet(unet),
        "adapter": T2IAdapter(channels=[16, 32], num_res_blocks=1, downscale_factor=8),
        "requires_safety_checker": False,
        "max_noise_level": 50,
        **({"scheduler": consistent} if "LatentConsistency" in class_name else {}),
        **(_depth() if "Depth" in class_name else {}),
    }


def sdxl(class_name: str, folder: Path) -> dict[str, Any]:
    """Stable Diffusion XL, and what is made of it."""
    # A picture's size, its crop, and the size wanted; or a score instead of the last.
    is_scored = "Img2Img" in class_name and "ControlNet" not in class_name
    numbers = 5 if is_scored else 6
    unet = (
        _UNET
        | _ADDED
        | {
            "in_channels": _input_channels(class_name),
            "projection_class_embeddings_input_dim": 32 + 8 * numbers,
        }
    )
    union = "Union" in class_name
    return (
        clip(folder)
        | clip(folder, "_2", has_projection=True)
        | {
            "vae": kl(),
            "unet": UNet2DConditionModel(**unet),
            "scheduler": DPMSolverMultistepScheduler(beta_schedule="scaled_linear"),
            "controlnet": _controlnet(unet, union=union),
            "adapter": T2IAdapter(channels=[16, 32], num_res_blocks=1, downscale_factor=8),
            "requires_aesthetics_score": is_scored,
            "force_zeros_for_empty_prompt": True,
            "add_watermarker": False,
        }
    )


def _controlnet(unet: dict[str, Any], *, union: bool = False) -> Any:
    taken = {
        name: value
        for name, value in unet.items()
        if name not in ("sample_size", "out_channels", "up_block_types", "time_cond_proj_dim")
        and name != "num_class_embeds"
    } | {"in_channels": 4, "conditioning_embedding_out_channels": (8, 8, 8, 8)}
    if union:
        return ControlNetUnionModel(
            **taken, num_trans_channel=16, num_trans_head=2, num_proj_channel=16
        )
    return ControlNetModel(**taken)


def _depth() -> dict[str, Any]:
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        is_hybrid=False,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    return {
        "depth_estimator": DPTForDepthEstimation(config).eval(),
        "feature_extractor": DPTImageProcessorPil(size={"height": 32, "width": 32}),
    }


def deepfloyd(class_name: str, folder: Path) -> dict[str, Any]:
    """DeepFloyd IF, which makes pixels."""
    del folder
    is_second = "SuperResolution" in class_name
    unet = {
        "sample_size": 32,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "in_channels": 6 if is_second else 3,
        "out_channels": 6,
        "cross_attention_dim": 32,
        "encoder_hid_dim": 32,
        "attention_head_dim": 8,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
        "norm_num_groups": 8,
        "class_embed_type": "timestep" if is_second else None,
    }
    schedule = {"variance_type": "learned_range", "prediction_type": "epsilon"}
    return t5() | {
        "unet": UNet2DConditionModel(**unet),
        "scheduler": DDPMScheduler(**schedule, thresholding=True, clip_sample=False),
        "image_noising_scheduler": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "requires_safety_checker": False,
    }


def movq() -> VQModel:
    """Kandinsky's, of factor 8; its norms have groups of 32 channels, whatever is set."""
    return VQModel(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        vq_embed_dim=4,
        norm_num_groups=8,
        norm_type="spatial",
        num_vq_embeddings=16,
    )
