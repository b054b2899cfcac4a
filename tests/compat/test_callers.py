"""Stock clients that need an environment of their own, which `make compat` installs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.gateway.conftest import FILL, SCHNELL, SDXL, Service

CALLERS = Path(__file__).parent / "callers"
INSTALLED = Path(os.environ.get("COMPAT_CLIENTS", Path(__file__).parents[2] / ".compat"))


def call(command: list[str | Path], cwd: Path | None = None) -> None:
    # The test's own import path would reach the other environment.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def python_of(name: str) -> Path:
    python = INSTALLED / name / "bin" / "python"
    if not python.exists():
        pytest.skip("`make compat` installs this client")
    return python


def test_together(service: Service) -> None:
    call([python_of("together"), CALLERS / "together_images.py", service.url, SCHNELL])


@pytest.mark.parametrize("version", ["0.25.2", "2.4.0"])
def test_huggingface_hub(service: Service, version: str) -> None:
    python = python_of(f"huggingface_hub-{version}")
    call([python, CALLERS / "hugging_face_images.py", service.url, SDXL, FILL])


def test_openai_and_hugging_face_for_node(service: Service, tmp_path: Path) -> None:
    packages = INSTALLED / "node" / "node_modules"
    if not packages.exists():
        pytest.skip("`make compat` installs these clients where there is node")
    # node looks for packages beside the script alone.
    (tmp_path / "node_modules").symlink_to(packages)
    script = tmp_path / "images.mjs"
    script.write_text((CALLERS / "images.mjs").read_text())
    call(["node", script, service.url, SDXL, FILL], cwd=tmp_path)
