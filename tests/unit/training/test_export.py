"""An exported version is a plain diffusers folder, and one that draws well."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from darkroom_server.repository.repository import ModelRepository
from darkroom_training import export, flux, flux_fill, scorecard, sdxl, t5_tokenizer, tokenizer, vae
from darkroom_training.checkpoint import Average, Checkpoint
from darkroom_training.product import PRODUCTS, Product

REPOSITORY = Path(__file__).parents[3] / "model_repo"
BASE = REPOSITORY / "tiny-sdxl" / "1"


def _untrained(name: str, folder: Path) -> torch.nn.Module:
    match name:
        case "tiny-sdxl":
            torch.save(vae.build().state_dict(), folder / "vae-folded.pt")
            return sdxl.Denoiser(tokenizer.load_or_build(folder / "tokenizer-0"))
        case "tiny-flux-schnell":
            return flux.FluxModel(BASE, t5_tokenizer.build())
        case _:
            return flux_fill.build(BASE, t5_tokenizer.build())


@pytest.fixture(scope="module", params=PRODUCTS)
def product(request: pytest.FixtureRequest) -> Product:
    return PRODUCTS[request.param]


@pytest.fixture(scope="module")
def folder(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves behind, of a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("training")
    torch.manual_seed(0)
    model = _untrained(product.name, folder)
    average = Average(model, decay=0.9)
    state = {"model": model.state_dict(), "average": average.values, "step": 3, "used_s": 7200.0}
    Checkpoint(folder / product.checkpoint).save(state)
    return folder


@pytest.fixture(scope="module")
def version(product: Product, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    version = tmp_path_factory.mktemp("repository") / product.name / "1"
    trained = export.write_version(product, folder, version, base=BASE)
    assert trained == {"steps": 3, "hours": 2.0}
    return version


def test_the_service_accepts_it(product: Product, version: Path) -> None:
    config = REPOSITORY / product.name / "config.pbtxt"
    (version.parent / "config.pbtxt").write_bytes(config.read_bytes())
    scan = ModelRepository(version.parents[1]).scan()
    assert [problem.message for problem in scan.problems] == []
    assert [model.info.name for model in scan.models] == [product.name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["full", "half"])
def test_the_stock_pipeline_draws_with_it(
    product: Product, version: Path, dtype: torch.dtype
) -> None:
    pipeline = DiffusionPipeline.from_pretrained(version, torch_dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    denoiser = pipeline.unet if product.name == "tiny-sdxl" else pipeline.transformer
    assert {denoiser.dtype, pipeline.vae.dtype, pipeline.text_encoder.dtype} == {dtype}
    size: dict[str, Any] = {"height": 64, "width": 64}
    if product.least is None:
        size |= {"image": Image.new("RGB", (64, 64)), "mask_image": Image.new("L", (64, 64), 255)}
    arguments = product.settings.arguments() | {"num_inference_steps": 1}
    assert pipeline("a red circle", **size, **arguments).images[0].size == (64, 64)


def test_weights_are_half_precision_safetensors_and_nothing_else_is_binary(version: Path) -> None:
    kinds = {path.suffix for path in version.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json", ".txt", ".sha256"}
    for path in version.rglob("*.safetensors"):
        length = int.from_bytes(path.read_bytes()[:8], "little")
        header = json.loads(path.read_bytes()[8 : 8 + length])
        dtypes = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
        assert dtypes == {"F16"}, path


def test_no_config_says_where_it_was_made(version: Path, folder: Path) -> None:
    for path in version.rglob("*.json"):
        text = path.read_text()
        assert "_name_or_path" not in text
        assert str(folder.parent) not in text


def test_the_manifest_names_every_file_with_its_digest(version: Path) -> None:
    lines = (version / "MANIFEST.sha256").read_text().splitlines()
    named = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in version.rglob("*")
        if path.is_file() and path.name != "MANIFEST.sha256"
    }
    assert named == files


def test_the_same_checkpoint_gives_the_same_bytes(
    product: Product, version: Path, folder: Path, tmp_path: Path
) -> None:
    export.write_version(product, folder, tmp_path / "again", base=BASE)
    manifest = "MANIFEST.sha256"
    assert (tmp_path / "again" / manifest).read_bytes() == (version / manifest).read_bytes()


def test_both_forms_of_a_tokenizer_read_prompts_alike(version: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(version, local_files_only=True)
    saved = version / "tokenizer"
    plain = type(pipeline.tokenizer)(
        vocab=str(saved / "vocab.json"),
        merges=str(saved / "merges.txt"),
        pad_token=pipeline.tokenizer.pad_token,
    )
    prompt = "an orange house on the left, Wörd 7!"
    assert plain(prompt).input_ids == pipeline.tokenizer(prompt).input_ids


def test_a_model_that_draws_nothing_is_not_exported(
    product: Product, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorecard, "TRUE_SCENES", 2)
    with pytest.raises(export.GateNotPassed, match="less than"):
        export.export(
            product,
            folder,
            tmp_path / "m",
            base=BASE,
            version=1,
            count=2,
            fill_count=2,
            seed=0,
            force=False,
        )
    assert not (tmp_path / "m").exists()
