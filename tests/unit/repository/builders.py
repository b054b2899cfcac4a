"""Small model repositories on disk."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan


def denoiser_class(pipeline_class: str) -> str:
    """The class of denoisers that a pipeline's family steps."""
    family = FAMILIES.get(pipeline_class)
    return "Denoiser" if family is None else next(iter(family.honours.denoisers))


SDXL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.39.0",
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
FLUX_INDEX: dict[str, Any] = {
    "_class_name": "FluxPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
HIDREAM_INDEX: dict[str, Any] = {
    "_class_name": "HiDreamImagePipeline",
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_3": ["transformers", "T5EncoderModel"],
    "text_encoder_4": ["transformers", "LlamaForCausalLM"],
    "transformer": ["diffusers", "HiDreamImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
VAE_CONFIG = {"block_out_channels": [16, 32, 64, 64]}


def safetensors(**tensors: int) -> bytes:
    """A file with one F32 vector of the given length per name."""
    header: dict[str, Any] = {}
    position = 0
    for name, count in tensors.items():
        end = position + 4 * count
        header[name] = {"dtype": "F32", "shape": [count], "data_offsets": [position, end]}
        position = end
    return with_header(json.dumps(header).encode(), bytes(position))


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def _part_files(name: str, kind: str, config: dict[str, Any]) -> dict[str, bytes]:
    if "Scheduler" in kind:
        return {f"{name}/scheduler_config.json": dump(config)}
    if "Tokenizer" in kind:
        return {f"{name}/tokenizer_config.json": dump(config), f"{name}/tokenizer.json": b"{}"}
    of_text = any(family in kind for family in ("Text", "T5", "Llama"))
    weights = "model" if of_text else "diffusion_pytorch_model"
    return {
        f"{name}/config.json": dump(config),
        f"{name}/{weights}.safetensors": safetensors(w=2),
    }


def pipeline_files(
    index: dict[str, Any], configs: dict[str, dict[str, Any]] | None = None
) -> dict[str, bytes]:
    """Every file of a whole pipeline folder."""
    files = {"model_index.json": dump(index)}
    for name, value in index.items():
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            default = VAE_CONFIG if name == "vae" else {}
            files |= _part_files(name, value[1], (configs or {}).get(name, default))
    return files


@dataclass(frozen=True)
class Repository:
    """Builds a repository and looks at it."""

    root: Path

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def config(self, model: str, text: str) -> None:
        self.write(f"{model}/config.pbtxt", text)

    def fake(self, model: str, *versions: int, config: str = "") -> None:
        self.config(model, f"backend: BACKEND_FAKE\n{config}")
        for version in versions or (1,):
            (self.root / model / str(version)).mkdir(parents=True)

    def pipeline(
        self,
        model: str,
        version: int | str = 1,
        *,
        index: dict[str, Any] = SDXL_INDEX,
        configs: dict[str, dict[str, Any]] | None = None,
        without: str = "",
    ) -> Path:
        for name, content in pipeline_files(index, configs).items():
            if not without or not name.startswith(without):
                self.write(f"{model}/{version}/{name}", content)
        return self.root / model / str(version)

    def scan(self) -> RepositoryScan:
        return ModelRepository(self.root).scan()

    def model(self, name: str = "m") -> RepositoryModel:
        return next(model for model in self.scan().models if model.info.name == name)

    def complaints(self) -> list[str]:
        """Every problem in one line: path, position, severity, message."""
        return [str(problem) for problem in self.scan().problems]

    def errors(self) -> list[str]:
        return [text for text in self.complaints() if ": error: " in text]
