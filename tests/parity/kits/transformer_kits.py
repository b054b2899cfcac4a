"""Parts of small pipelines with a transformer of Stable Diffusion 3's or FLUX's kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    BriaTransformer2DModel,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxControlNetModel,
    FluxTransformer2DModel,
    LongCatImageTransformer2DModel,
    OvisImageTransformer2DModel,
    QwenImageControlNetModel,
    QwenImageTransformer2DModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)

from tests.parity.kits.text_parts import clip, decoder, qwen_processor, qwen_vl, t5, words
from tests.parity.kits.unet_kits import kl

_HEADS = {"attention_head_dim": 16, "num_attention_heads": 2}


def flow() -> FlowMatchEulerDiscreteScheduler:
    """Shifted by the size, as the newer ones are."""
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def shifted_kl(latent_channels: int = 4, **differences: Any) -> Any:
    """An autoencoder whose latents are shifted."""
    settings = {"scaling_factor": 0.7, "shift_factor": 0.1}
    unused = {"use_quant_conv": False, "use_post_quant_conv": False}
    return kl(latent_channels, **(settings | unused | differences))


def qwen_kl() -> AutoencoderKLQwenImage:
    """Qwen-Image's, of factor 4."""
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1] * 4,
        latents_std=[1.1] * 4,
    )


def wan_kl() -> AutoencoderKLWan:
    """Wan's, of factor 8."""
    return AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1] * 4,
        latents_std=[1.1] * 4,
    )


def flux2_kl() -> AutoencoderKLFlux2:
    """FLUX.2's, whose latents are packed two by two and normalized."""
    return AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1
    )


def sd3(class_name: str, folder: Path) -> dict[str, Any]:
    """Stable Diffusion 3."""
    # The one class that asks for as many channels as the published ones have.
    channels = 16 if class_name == "StableDiffusion3InpaintPipeline" else 4
    shape: dict[str, Any] = _HEADS | {
        "sample_size": 16,
        "patch_size": 2,
        "in_channels": channels,
        "out_channels": channels,
        "joint_attention_dim": 64,
        "caption_projection_dim": 32,
        "pooled_projection_dim": 64,
        "pos_embed_max_size": 16,
    }
    extra = 1 if "Inpaint" in class_name else 0
    return (
        clip(folder, has_projection=True)
        | clip(folder, "_2", has_projection=True)
        | t5("_3", width=64)
        | {
            "vae": shifted_kl(channels),
            "transformer": SD3Transformer2DModel(**shape, num_layers=2),
            "controlnet": SD3ControlNetModel(
                **shape, num_layers=1, extra_conditioning_channels=extra
            ),
            "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
            "pag_applied_layers": "blocks.0",
        }
    )


def _flux_channels(class_name: str) -> int:
    if "Fill" in class_name:
        return 2 * 16 + 4 * 64
    return 32 if "Control" in class_name and "ControlNet" not in class_name else 16


def flux(class_name: str, folder: Path) -> dict[str, Any]:
    """FLUX.1."""
    shape: dict[str, Any] = _HEADS | {
        "patch_size": 1,
        "num_layers": 1,
        "num_single_layers": 1,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": (4, 4, 8),
    }
    return (
        clip(folder)
        | t5("_2")
        | {
            "vae": shifted_kl(),
            "transformer": FluxTransformer2DModel(
                **shape,
                guidance_embeds=True,
                in_channels=_flux_channels(class_name),
                out_channels=16,
            ),
            "controlnet": FluxControlNetModel(**shape, guidance_embeds=True, in_channels=16),
            "scheduler": flow(),
        }
    )


def chroma(class_name: str, folder: Path) -> dict[str, Any]:
    """Chroma."""
    del class_name, folder
    return t5() | {
        "vae": shifted_kl(),
        "transformer": ChromaTransformer2DModel(
            **_HEADS,
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ),
        "scheduler": flow(),
    }


def bria(class_name: str, folder: Path) -> dict[str, Any]:
    """Bria 3."""
    del class_name, folder
    return t5() | {
        "vae": shifted_kl(),
        "transformer": BriaTransformer2DModel(
            **_HEADS,
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=32,
            axes_dims_rope=[4, 4, 8],
        ),
        "scheduler": flow(),
    }


def ovis(class_name: str, folder: Path) -> dict[str, Any]:
    """Ovis-Image."""
    del class_name, folder
    return {
        "tokenizer": words(is_chat=True),
        "text_encoder": decoder("qwen3-model"),
        "vae": shifted_kl(),
        "transformer": OvisImageTransformer2DModel(
            **_HEADS,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
        ),
        "scheduler": flow(),
    }


def long_cat(class_name: str, folder: Path) -> dict[str, Any]:
    """LongCat-Image."""
    del class_name, folder
    return {
        "tokenizer": words(is_chat=True),
        "text_encoder": qwen_vl(),
        "vae": shifted_kl(),
        "transformer": LongCatImageTransformer2DModel(
            **_HEADS,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
        ),
        "scheduler": flow(),
    }


def qwen_reader(class_name: str) -> dict[str, Any]:
    """What reads Qwen-Image's texts, and for edits the pictures besides."""
    if "Edit" not in class_name:
        return {"tokenizer": words(is_chat=True), "text_encoder": qwen_vl()}
    processor = qwen_processor()
    return {
        "processor": processor,
        "tokenizer": processor.tokenizer,
        "text_encoder": qwen_vl(sees=processor.tokenizer),
    }


def qwen(class_name: str, folder: Path) -> dict[str, Any]:
    """Qwen-Image."""
    del folder
    shape: dict[str, Any] = _HEADS | {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 1,
        "joint_attention_dim": 32,
        "axes_dims_rope": (8, 4, 4),
    }
    extra = 4 if "Inpaint" in class_name else 0
    return {
        **qwen_reader(class_name),
        "vae": qwen_kl(),
        "transformer": QwenImageTransformer2DModel(**shape),
        "controlnet": QwenImageControlNetModel(**shape, extra_condition_channels=extra),
        "scheduler": flow(),
    }


def flux2(class_name: str, folder: Path) -> dict[str, Any]:
    """FLUX.2, of which dev is guided by a number and has another text encoder than klein."""
    del folder
    is_klein = "Klein" in class_name
    return {
        "tokenizer": words(is_chat=True),
        "text_encoder": klein_text_encoder() if is_klein else dev_text_encoder(),
        "vae": flux2_kl(),
        "transformer": Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=96,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=not is_klein,
        ),
        "scheduler": flow(),
        "is_distilled": False,
    }


def dev_text_encoder() -> Any:
    """A Mistral 3 of so many layers that those whose states are taken exist."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    shape = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "head_dim": 16,
    }
    texts = {
        "model_type": "mistral",
        "vocab_size": 258,
        "num_hidden_layers": 30,
        "num_key_value_heads": 2,
    }
    pictures = {"model_type": "pixtral", "num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    config = Mistral3Config(text_config=shape | texts, vision_config=shape | pictures)
    return Mistral3ForConditionalGeneration(config).eval()


def klein_text_encoder() -> Any:
    """A Qwen3 of so many layers that those whose states are taken exist."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=28,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    return Qwen3ForCausalLM(config).eval()


def z_image(class_name: str, folder: Path) -> dict[str, Any]:
    """Z-Image."""
    del folder
    filled = 4 + 1 if "Inpaint" in class_name else 0
    return {
        "controlnet": ZImageControlNetModel(
            control_layers_places=[0, 1],
            control_refiner_layers_places=[0],
            control_in_dim=4 + filled,
            add_control_noise_refiner="control_noise_refiner",
            dim=32,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
        ),
        "tokenizer": words(is_chat=True),
        "text_encoder": decoder("qwen3-model"),
        "vae": shifted_kl(),
        "transformer": ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=32,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 64, 64],
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }
