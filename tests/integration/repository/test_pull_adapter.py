"""`darkroom pull REPO --adapter-of MODEL` against a hub on loopback, in every layout."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from darkroom_server.repository.hub import HubError, HubListing
from darkroom_server.repository.pull_adapter import adapter_file
from darkroom_server.repository.repository import ModelRepository
from tests.integration.repository.hub_server import Hub, serving_hub
from tests.integration.repository.test_pull import pull

MODEL = "tiny-sdxl"
BASE = Path(__file__).parents[3] / "model_repo" / MODEL
LAYER, WIDTH = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", 128
REPO = "Some-One/Ink.LoRA"
UNDERLINED = f"lora_unet_{LAYER.replace('.', '_')}"


def pair(width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(width)
    down, up = rng.normal(size=(4, width)), rng.normal(size=(width, 4))
    return down.astype(np.float32), up.astype(np.float32)


DOWN, UP = pair()
LAYOUTS: dict[str, dict[str, bytes]] = {
    "diffusers": {
        "pytorch_lora_weights.safetensors": save(
            {f"unet.{LAYER}.lora_A.weight": DOWN, f"unet.{LAYER}.lora_B.weight": UP}
        ),
        "README.md": b"# Ink",
        "optimizer.bin": b"a pickle",
    },
    "kohya": {
        "ink_v2.safetensors": save(
            {
                f"{UNDERLINED}.lora_down.weight": DOWN,
                f"{UNDERLINED}.lora_up.weight": UP,
                f"{UNDERLINED}.alpha": np.float32([2]),
            }
        )
    },
    "peft": {
        "adapter_model.safetensors": save(
            {
                f"base_model.model.{LAYER}.lora_A.weight": DOWN,
                f"base_model.model.{LAYER}.lora_B.weight": UP,
            }
        ),
        "adapter_config.json": b'{"r": 4, "lora_alpha": 8, "target_modules": ["to_q"]}',
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pulled") / "models"
    root.mkdir()
    shutil.copytree(BASE, root / MODEL, ignore=shutil.ignore_patterns("adapters"))
    return root


@pytest.fixture
def root(models: Path) -> Path:
    shutil.rmtree(models / MODEL / "adapters", ignore_errors=True)
    return models


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving_hub(Hub({REPO: {}})) as running:
        yield running


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_fetched_checked_and_known_by_its_hub_id(
    hub: Hub, root: Path, layout: str
) -> None:
    hub.files[REPO] = LAYOUTS[layout]
    done = pull(hub, root, REPO, "--adapter-of", MODEL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"{MODEL}/adapters/ink.lora/1")
    scan = ModelRepository(root).scan()
    assert not scan.has_errors
    [adapter] = scan.models[0].adapters
    assert (adapter.name, adapter.version, adapter.ranks) == ("ink.lora", 1, (4,))
    assert adapter.aliases == (REPO,)
    is_there = (adapter.path.parent / "adapter_config.json").exists()
    assert is_there == (layout == "peft")
    assert list((root / ".pull").iterdir()) == []
    if layout == "kohya":
        again = pull(hub, root, REPO, "--adapter-of", MODEL)
        assert "was there already" in again.stdout


def test_what_does_not_fit_leaves_nothing(hub: Hub, root: Path) -> None:
    down, up = pair(width=64)
    wrong = {f"unet.{LAYER}.lora_A.weight": down, f"unet.{LAYER}.lora_B.weight": up}
    hub.files[REPO] = {"a.safetensors": save(wrong)}
    done = pull(hub, root, REPO, "--adapter-of", MODEL)
    assert done.returncode == 1
    assert "does not fit" in done.stderr
    assert LAYER in done.stderr
    assert not (root / MODEL / "adapters").exists()


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (["a.safetensors", "README.md"], None, "a.safetensors"),
        (["a.safetensors", "pytorch_lora_weights.safetensors"], None, "pytorch_lora"),
        (["a.safetensors", "b/c.safetensors"], "b/c.safetensors", "b/c.safetensors"),
        (["a.safetensors", "b.safetensors"], None, "name one with --file (a.safetensors, b.saf"),
        (["a.safetensors"], "c.safetensors", "has no safetensors file 'c.safetensors'"),
        (["../a.safetensors"], None, "has no safetensors file"),
        (["../a.safetensors"], "../a.safetensors", "has no safetensors file"),
        (["pytorch_lora_weights.bin"], None, "only as a pickle"),
        ([], None, "has no safetensors file"),
    ],
)
def test_the_file_that_is_meant(names: list[str], asked: str | None, found: str) -> None:
    listing = HubListing(REPO, "c0ffee", dict.fromkeys(names, 1))
    try:
        told = str(adapter_file(listing, asked))
    except HubError as error:
        told = str(error)
    assert found in told
