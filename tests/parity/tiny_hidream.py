"""A small HiDream-I1 pipeline with random weights, built without any download."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    SchedulerMixin,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5EncoderModel,
)

from tests.parity.device import placed
from tests.parity.tiny_flux import byte_t5_tokenizer
from tests.parity.tiny_pipelines import byte_tokenizer, text_config

#: Edge of the square image whose size the stock pipeline keeps, in pixels.
EDGE_PX = 64


def random_hidream(folder: Path, scheduler: SchedulerMixin) -> HiDreamImagePipeline:
    """The VAE has factor 8, the transformer experts to route to; made for 64 x 64 px."""
    torch.manual_seed(0)
    words = byte_tokenizer(folder)
    pipeline = HiDreamImagePipeline(
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
        text_encoder=CLIPTextModelWithProjection(_long_text_config(words)),
        tokenizer=words,
        text_encoder_2=CLIPTextModelWithProjection(_long_text_config(words)),
        tokenizer_2=words,
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=258, d_model=24, d_kv=8, d_ff=64, num_layers=2, num_heads=3)
        ).eval(),
        tokenizer_3=byte_t5_tokenizer(),
        text_encoder_4=LlamaForCausalLM(
            LlamaConfig(
                vocab_size=258,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=128,
            )
        ).eval(),
        tokenizer_4=byte_t5_tokenizer(),
        transformer=_transformer(),
        scheduler=scheduler,
    )
    pipeline.default_sample_size = EDGE_PX // 8
    return placed(pipeline)


def _transformer() -> HiDreamImageTransformer2DModel:
    return HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[24, 16],
        text_emb_dim=64,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(EDGE_PX // 8, EDGE_PX // 8),
        llama_layers=[0, 1, 2, 2],
    ).eval()


def _long_text_config(words: CLIPTokenizer) -> CLIPTextConfig:
    """The pipeline pads prompts for CLIP to 128 tokens."""
    config = text_config(words)
    config.max_position_embeddings = 128
    return config
