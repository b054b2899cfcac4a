"""From `darkroom export` to a picture over gRPC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.serving import connected, serving
from darkroom_client import Client
from tests.parity.tiny_pipelines import random_sdxl

CONFIG = "denoiser: DENOISER_ONNXRUNTIME\n"


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

    script = "from darkroom_server.cli.main import main; main()"
    command = (sys.executable, "-c", script, "export", "m", "--to", "onnx")
    exported = subprocess.run(
        (*command, "--model-repository", root, "--threads", "1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert exported.returncode == 0, exported.stderr
    assert "dB PSNR of torch's" in exported.stdout

    with serving(root) as server, connected(server) as client:
        server.until("model", model="m/1", state="ready")
        made = client.generate("a house", steps=3, seed=5)
        assert made.parameters.model_digest == digest
        assert made.parameters.fingerprint == f"{digest[:12]}/fp32/onnxruntime/solo"
