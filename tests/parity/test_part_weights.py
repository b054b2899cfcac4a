"""Weights that are not those that a part's configuration asks for are refused, whichever part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from typer.testing import CliRunner

from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.part_weights import PartFault, components, part_faults
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.cli import weights_check
from darkroom_server.cli.main import app
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import DeviceKind, Placement
from darkroom_server.repository.repository import ModelRepository
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_hidream import random_hidream
from tests.parity.tiny_pipelines import random_sd, random_sdxl
from tests.parity.tiny_sd3 import random_sd3
from tests.parity.tiny_whole import random_inpainting, random_lcm, random_pixart

EMBEDDED = Path(__file__).parents[2] / "model_repo"
NAMES = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
    "stable_diffusion": "model.safetensors",
}


def sdxl_with_image_encoder(folder: Path) -> Any:
    """As an IP-Adapter leaves it."""
    pipeline = random_sdxl(folder)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=8,
    )
    pipeline.register_modules(
        image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
    )
    return pipeline


PIPELINES: dict[str, Callable[[Path], Any]] = {
    "sd": lambda folder: random_sd(folder, checked=True),
    "sd-inpainting": lambda folder: random_sd(folder, unet_channels=9),
    "sdxl": lambda folder: random_sdxl(folder, has_statistics=True),
    "sdxl-image-encoder": sdxl_with_image_encoder,
    "sd3": random_sd3,
    "sd3-without-t5": lambda folder: random_sd3(folder, has_t5=False),
    "flux-dev": lambda folder: random_flux(folder, guided=True),
    "flux-schnell": lambda folder: random_flux(folder, guided=False, small_vae=True),
    "flux-fill": random_flux_fill,
    "hidream": lambda folder: random_hidream(
        folder,
        UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    ),
    "whole-lcm": random_lcm,
    "whole-inpainting": random_inpainting,
    "whole-pixart": lambda _: random_pixart(),
}


@pytest.fixture(scope="module", params=PIPELINES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline as `save_pretrained` leaves it."""
    folder = tmp_path_factory.mktemp(request.param)
    PIPELINES[request.param](folder / "words").save_pretrained(folder / "m" / "1")
    shutil.rmtree(folder / "words", ignore_errors=True)
    return folder


def weights(version: Path) -> Iterator[tuple[str, Path]]:
    """Every part with weights, and the file that it is loaded from."""
    for part, (library, _) in components(version).items():
        file = version / part / NAMES.get(library or "", "-")
        if file.is_file():
            yield part, file


def faults(version: Path, *parts: str) -> list[PartFault]:
    """Of these parts, or all."""
    found = components(version)
    return list(part_faults(version, {part: found[part] for part in parts or found}))


def test_what_save_pretrained_leaves_is_taken(saved: Path) -> None:
    assert faults(saved / "m" / "1") == []
    (model,) = ModelRepository(saved).scan().models
    assert model.serving == (1,)


def test_every_part_with_a_tensor_missing_added_or_reshaped_is_refused(saved: Path) -> None:
    version = saved / "m" / "1"
    parts = dict(weights(version))
    assert {"vae"} < set(parts)
    for part, file in parts.items():
        content = file.read_bytes()
        tensors = load_file(file)
        # One that nothing is tied to.
        name = max(tensors, key=lambda one: (one.count("."), one))
        changes = {
            "lacks 1 tensor": {one: tensors[one] for one in tensors if one != name},
            "has 1 tensor ('of_nobody.weight')": {**tensors, "of_nobody.weight": torch.zeros(2)},
            f"has tensor '{name}' of shape [3, 5], not": {**tensors, name: torch.zeros(3, 5)},
        }
        for expected, changed in changes.items():
            save_file(changed, file, metadata={"format": "pt"})
            (fault,) = faults(version, part)
            assert fault.part == part
            assert expected in fault.message
            assert name in fault.message or "of_nobody" in fault.message
        file.write_bytes(content)
    assert faults(version) == []


def test_every_part_in_shards_is_compared(saved: Path) -> None:
    version = saved / "m" / "1"
    for part, file in weights(version):
        content = file.read_bytes()
        tensors = load_file(file)
        file.unlink()
        names = sorted(tensors)
        shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
        index = file.with_name(f"{file.name}.index.json")
        weight_map = {name: shard for shard, held in shards.items() for name in held}
        index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        for shard, held in shards.items():
            kept = {name: tensors[name] for name in held}
            save_file(kept, file.with_name(shard), metadata={"format": "pt"})
        assert faults(version, part) == []
        lost = shards["b.safetensors"][-1]
        kept = {name: tensors[name] for name in shards["b.safetensors"] if name != lost}
        save_file(kept, file.with_name("b.safetensors"), metadata={"format": "pt"})
        assert [one.part for one in faults(version, part)] in ([part], [])  # [] where it is tied
        scan = ModelRepository(saved).scan()
        assert scan.models == ()
        assert f"m/1/{part}/b.safetensors: error: lacks tensors" in str(scan.problems[0])
        assert lost in scan.problems[0].message
        for shard in shards:
            file.with_name(shard).unlink()
        index.unlink()
        file.write_bytes(content)


def test_check_repo_takes_the_embedded_models_and_names_what_one_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_check, "quieten", lambda: None)
    result = CliRunner().invoke(app, ["check-repo", str(EMBEDDED)])
    assert result.exit_code == 0, result.output
    assert "no problems" in result.output
    newest_only = shutil.ignore_patterns("1")
    shutil.copytree(EMBEDDED / "tiny-sdxl", tmp_path / "tiny-sdxl", ignore=newest_only)
    version = tmp_path / "tiny-sdxl" / "2"
    (version / "MANIFEST.sha256").unlink()
    for part, file in weights(version):
        tensors = load_file(file)
        lost = max(tensors, key=lambda one: (one.count("."), one))
        kept = {name: tensor for name, tensor in tensors.items() if name != lost}
        save_file(kept, file, metadata={"format": "pt"})
        result = CliRunner().invoke(app, ["check-repo", str(tmp_path)])
        assert result.exit_code == 1
        assert f"tiny-sdxl/2/{part}: error: lacks 1 tensor ('{lost}')" in result.output
        assert "0 models can be served" in result.output


def test_a_layer_that_is_missing_ends_the_load_with_its_name(saved: Path) -> None:
    version = saved / "m" / "1"
    (model,) = ModelRepository(saved).scan().models
    part, file = next(weights(version))
    content, tensors = file.read_bytes(), load_file(file)
    lost = max(tensors, key=lambda one: (one.count("."), one))
    kept = {name: tensor for name, tensor in tensors.items() if name != lost}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(ModelUnavailable, match=f"{part} lacks 1 tensor .'{lost}'"):
        load_model(
            model.versions[0],
            Placement(DeviceKind.CPU),
            thread_count=1,
            prompts=PromptCache(max_bytes=0),
        )
    file.write_bytes(content)


def test_what_older_releases_saved_and_parts_compute_is_taken(tmp_path: Path) -> None:
    version = tmp_path / "m" / "1"
    random_sd(tmp_path / "words", checked=True).save_pretrained(version)
    added = {
        "text_encoder": ("text_model.embeddings.position_ids", 24),
        "safety_checker": ("vision_model.vision_model.embeddings.position_ids", 5),
    }
    for part, (name, count) in added.items():
        file = version / part / "model.safetensors"
        tensors = load_file(file) | {name: torch.arange(count)[None]}
        save_file(tensors, file, metadata={"format": "pt"})
    # As the first releases called a VAE's attention.
    file = version / "vae" / NAMES["diffusers"]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, tensor in load_file(file).items():
        for new, former in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{former}.")
        renamed[name] = tensor
    save_file(renamed, file, metadata={"format": "pt"})
    assert faults(version) == []
    assert DiffusionPipeline.from_pretrained(version, use_safetensors=True) is not None
