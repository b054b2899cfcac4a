"""Small FLUX pipelines with random weights, built without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from tests.parity.device import placed
from tests.parity.tiny_pipelines import byte_tokenizer

LATENT_CHANNELS = 4
#: Packed two by two; a fill adds the masked image's latents and the mask of 8 x 8 pixels a latent.
PACKED = 4 * LATENT_CHANNELS
PACKED_FILL = 2 * PACKED + 4 * 64


def random_flux(
    folder: Path, *, guided: bool, dynamic: bool = True, small_vae: bool = False
) -> FluxPipeline:
    """FLUX.1 dev (`guided`) or schnell; `dynamic` sigmas depend on the size, as dev's do."""
    torch.manual_seed(0)
    parts = _parts(folder, guided=guided, dynamic=dynamic, channels=PACKED)
    return _quiet(FluxPipeline(**parts | ({"vae": _small_vae()} if small_vae else {})))


def random_flux_fill(folder: Path, *, small_vae: bool = False) -> FluxFillPipeline:
    """FLUX.1 Fill; the VAE has factor 8, and samples unless it is the small one."""
    torch.manual_seed(0)
    parts = _parts(folder, guided=True, dynamic=True, channels=PACKED_FILL)
    return _quiet(FluxFillPipeline(**parts | ({"vae": _small_vae()} if small_vae else {})))


def _small_vae() -> AutoencoderTiny:
    """An autoencoder without a distribution of latents: its encoder's output is the latents."""
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
        latent_channels=LATENT_CHANNELS,
        scaling_factor=0.7,
        shift_factor=0.1,
    )


def _quiet(pipeline: Any) -> Any:
    # Built and not loaded, a T5 encoder drops out values at random.
    pipeline.text_encoder_2.eval()
    return placed(pipeline)


def _parts(folder: Path, *, guided: bool, dynamic: bool, channels: int) -> dict[str, Any]:
    words = byte_tokenizer(folder)
    return {
        "vae": AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=4,
            scaling_factor=0.7,
            shift_factor=0.1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
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
        ),
        "tokenizer": words,
        "text_encoder_2": T5EncoderModel(
            T5Config(vocab_size=258, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
        ),
        "tokenizer_2": byte_t5_tokenizer(),
        "transformer": FluxTransformer2DModel(
            patch_size=1,
            in_channels=channels,
            out_channels=PACKED,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=guided,
            axes_dims_rope=(4, 4, 8),
        ),
        "scheduler": FlowMatchEulerDiscreteScheduler(
            shift=3.0 if dynamic else 1.0, use_dynamic_shifting=dynamic
        ),
    }


def byte_t5_tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "</s>": 1, **{letter: 2 + k for k, letter in enumerate(letters)}}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", model_max_length=32
    )
