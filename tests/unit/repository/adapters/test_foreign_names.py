"""Adapters in the layouts of the models' authors: what is refused though no name is mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from darkroom_server.repository.adapters.layers import Misfit, check_adapter

UNET = {"unet": {"mid.to_q": (8, 8)}, "text_encoder": {"layers.0.q_proj": (6, 6)}}
TRANSFORMER = {"transformer": {"blocks.0.to_q": (8, 8)}, "text_encoder": {"layers.0.q": (6, 6)}}
INPUT, DOUBLE = "input_blocks_4_1_proj_in", "double_blocks_0_img_attn_qkv"


def checked(
    folder: Path, layer: str, width: int, base: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    path = folder / "ink.safetensors"
    down, up = np.ones((2, width), np.float32), np.ones((24, 2), np.float32)
    save_file({f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}, path)
    check_adapter(path, path.stat().st_size, base)


@pytest.mark.parametrize(
    ("layer", "base"),
    [
        (f"lora_unet_{INPUT}", UNET),
        (f"unet.{INPUT}", UNET),
        (f"lora_unet_{DOUBLE}", TRANSFORMER),
        (f"transformer.{DOUBLE}", TRANSFORMER),
        (f"base_model.model.{DOUBLE}", TRANSFORMER),
    ],
)
def test_what_may_fit_is_left_to_loading_and_a_wrong_width_is_refused(
    tmp_path: Path, layer: str, base: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    checked(tmp_path, layer, 8, base)
    with pytest.raises(Misfit, match=layer):
        checked(tmp_path, layer, 7, base)


@pytest.mark.parametrize(
    ("layer", "base"),
    [
        (f"lora_unet_{DOUBLE}", UNET),
        (f"base_model.model.{DOUBLE}", UNET),
        (f"lora_unet_{INPUT}", TRANSFORMER),
        (f"lora_te1_{INPUT}", UNET),
        (f"lora_te2_{INPUT}", UNET),
        (f"text_encoder.{DOUBLE}", TRANSFORMER),
    ],
)
def test_names_of_another_denoiser_or_a_text_encoder_are_refused(
    tmp_path: Path, layer: str, base: dict[str, dict[str, tuple[int, ...]]]
) -> None:
    with pytest.raises(Misfit, match=layer):
        checked(tmp_path, layer, 8, base)
