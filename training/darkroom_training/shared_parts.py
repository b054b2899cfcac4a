"""What the FLUX models take over from the exported tiny-sdxl: one autoencoder, one CLIP vocabulary."""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderTiny
from transformers import CLIPTextModel, CLIPTokenizer


def autoencoder(version_folder: Path) -> AutoencoderTiny:
    """The autoencoder, in full precision."""
    return AutoencoderTiny.from_pretrained(version_folder / "vae").eval()


def clip_words(version_folder: Path) -> CLIPTokenizer:
    """The CLIP tokenizer."""
    return CLIPTokenizer.from_pretrained(version_folder / "tokenizer")


def clip_text_encoder(version_folder: Path) -> CLIPTextModel:
    """The second text encoder: its pooled output has already learnt what prompts say."""
    return CLIPTextModel.from_pretrained(version_folder / "text_encoder_2")
