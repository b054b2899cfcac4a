"""Parts of small pipelines that fill in the tokens of a codebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import AmusedScheduler, UVit2DModel, VQModel

from tests.parity.kits.text_parts import WIDTH, clip

_CODES = 8


def amused(class_name: str, folder: Path) -> dict[str, Any]:
    """aMUSEd; pictures have a quarter as many tokens as pixels."""
    del class_name
    return clip(folder, has_projection=True) | {
        "vqvae": VQModel(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            latent_channels=8,
            num_vq_embeddings=_CODES,
            norm_num_groups=8,
            mid_block_add_attention=False,
            lookup_from_codebook=True,
        ),
        "transformer": UVit2DModel(
            hidden_size=8,
            cond_embed_dim=WIDTH,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=WIDTH,
            vocab_size=32,
            codebook_size=_CODES,
            in_channels=8,
            block_out_channels=8,
            num_res_blocks=1,
            downsample=True,
            upsample=True,
            block_num_heads=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=16,
            sample_size=32,
        ),
        "scheduler": AmusedScheduler(mask_token_id=31),
    }
