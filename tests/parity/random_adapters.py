"""Adapters with random weights for small pipelines, in the layouts that trainers write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from darkroom_server.domain.adapters import AdapterUse, AdapterVersion

#: Layers that trainers commonly add to, by the end of their names.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXTS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1")

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]


def random_pairs(
    module: torch.nn.Module, endings: tuple[str, ...], *, rank: int, seed: int, size: float = 0.2
) -> Pairs:
    """Low-rank pairs for the layers of a part with these endings."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * size

    pairs: Pairs = {}
    for name, layer in module.named_modules():
        if not name.endswith(endings):
            continue
        if isinstance(layer, torch.nn.Linear):
            pairs[name] = drawn(rank, layer.in_features), drawn(layer.out_features, rank)
        elif isinstance(layer, torch.nn.Conv2d):
            down = drawn(rank, layer.in_channels, *layer.kernel_size)
            pairs[name] = down, drawn(layer.out_channels, rank, 1, 1)
    assert pairs
    return pairs


def write_diffusers(file: Path, parts: Mapping[str, Pairs], settings: Any = None) -> Path:
    """As `save_lora_weights` writes them; `settings` by part are peft's."""
    tensors = {
        f"{part}.{name}": tensor
        for part, pairs in parts.items()
        for name, tensor in _named(pairs, "lora_A.weight", "lora_B.weight")
    }
    metadata = None
    if settings is not None:
        written = {f"{part}.{k}": v for part, own in settings.items() for k, v in own.items()}
        metadata = {"lora_adapter_metadata": json.dumps(written)}
    save_file(tensors, file, metadata=metadata)
    return file


def write_kohya(file: Path, parts: Mapping[str, Pairs], *, alpha: float) -> Path:
    """As kohya's trainers write them: one underlined name a layer, and an alpha for each."""
    prefixes = {"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    prefixes |= dict.fromkeys(("unet", "transformer"), "lora_unet")
    if "text_encoder_2" not in parts and "unet" in parts:
        prefixes["text_encoder"] = "lora_te"
    tensors = {}
    for part, pairs in parts.items():
        for name, (down, up) in pairs.items():
            layer = f"{prefixes[part]}_{name.replace('.', '_')}"
            tensors[f"{layer}.lora_down.weight"] = down
            tensors[f"{layer}.lora_up.weight"] = up
            tensors[f"{layer}.alpha"] = torch.tensor(alpha)
    save_file(tensors, file)
    return file


def write_peft(folder: Path, pairs: Pairs, settings: Mapping[str, Any]) -> Path:
    """As peft's `save_pretrained` writes a denoiser's."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "adapter_model.safetensors"
    names = _named(pairs, "lora_A.weight", "lora_B.weight")
    save_file({f"base_model.model.{name}": tensor for name, tensor in names}, file)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return file


def _named(pairs: Pairs, down: str, up: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, (one, other) in pairs.items():
        yield f"{name}.{down}", one
        yield f"{name}.{up}", other


def use(file: Path, weight: float = 1.0) -> AdapterUse:
    """It as a request asks for it."""
    adapter = AdapterVersion(
        name=file.stem, version=1, path=file, digest=str(file), size_bytes=file.stat().st_size
    )
    return AdapterUse(adapter=adapter, weight=weight)
