"""From `darkroom export` to a picture over gRPC."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bench.serving import DARKROOM, connected, serving
from darkroom_client import Client
from tests.parity.tiny_pipelines import random_sdxl

CONFIG = "denoiser: DENOISER_ONNXRUNTIME\n"


def darkroom(*words: str, root: Path) -> subprocess.CompletedProcess[str]:
    """A command on a repository, as in a terminal of 120 columns."""
    return subprocess.run(
        (*DARKROOM, *words, "--model-repository", root, "--threads", "1"),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "120"},
    )


@pytest.mark.timeout(900)  # an export traces and compares pictures: minutes on a busy machine
def test_an_exported_denoiser_is_served(tmp_path: Path) -> None:
    root = tmp_path / "models"
    random_sdxl(tmp_path / "words").save_pretrained(root / "m" / "1")
    (root / "m" / "config.pbtxt").write_text(CONFIG)

    with serving(root) as server, Client(server.address) as client:
        server.until("model", model="m/1", state="failed")
        [listed] = client.list_models()
        assert "run darkroom export m --version 1 --to onnx" in listed.state_message
        digest = listed.versions[0].digest

    exported = darkroom("export", "m", "--to", "onnx", root=root)
    assert exported.returncode == 0, exported.stderr
    assert "dB PSNR of torch's" in exported.stdout

    with serving(root) as server, connected(server) as client:
        server.until("model", model="m/1", state="ready")
        made = client.generate("a house", steps=3, seed=5)
        assert made.parameters.model_digest == digest
        assert made.parameters.fingerprint.startswith(
            f"{digest[:12]}/fp32/onnxruntime/exact/torch-"
        )


def test_a_profile_measures_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    root = tmp_path / "models"
    random_sdxl(tmp_path / "words").save_pretrained(root / "m" / "1")
    config = root / "m" / "config.pbtxt"
    config.write_text("# Mine.\nmax_batch_size: 4\n")
    words = ("profile", "m", "--rows", "1,2", "--size", "64x64", "--repeats", "1")
    found = darkroom(*words, "--skip", "torch_compile", "--write", root=root)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    [torch] = [line for line in lines if line.startswith("torch ")]
    assert len(torch.split()) == len(("torch", "1 row", "2 rows", "decoding", "gain", "set up"))
    assert torch.split()[4] == "1.00"
    assert "run darkroom export m --version 1 --to openvino --weights int8" in found.stdout
    assert "recommended: torch" in lines
    assert config.read_text().startswith("# Mine.\nmax_batch_size: 4\n")

    wrong = darkroom("profile", "m", "--size", "65x64", root=root)
    assert wrong.returncode == 2
    assert "multiples of" in wrong.stderr
