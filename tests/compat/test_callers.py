"""Stock clients that need an environment of their own, which `make compat` installs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2
from PIL import Image

from bench.serving import serving
from tests.e2e.gateway.conftest import DEV, FILL, MODELS, SCHNELL, SDXL, Service

CALLERS = Path(__file__).parent / "callers"
SNIPPETS = Path(__file__).parents[2] / "examples" / "http"
PROTOS = Path(__file__).parents[2] / "protos"
BUF = Path(sys.executable).with_name("buf")
INSTALLED = Path(os.environ.get("COMPAT_CLIENTS", Path(__file__).parents[2] / ".compat"))


def call(
    command: list[str | Path], cwd: Path | None = None, *, timeout_s: float | None = None
) -> str:
    """What the program prints; it must succeed. Raises TimeoutExpired."""
    # The test's own import path would reach the other environment.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=timeout_s
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def python_of(name: str) -> Path:
    python = INSTALLED / name / "bin" / "python"
    if not python.exists():
        pytest.skip("`make compat` installs this client")
    return python


def test_together(service: Service) -> None:
    call([python_of("together"), CALLERS / "together_images.py", service.url, SCHNELL])


def test_replicate(service: Service) -> None:
    call([python_of("replicate"), CALLERS / "replicate_images.py", service.url, SDXL, "any/slow"])


@contextmanager
def secure(folder: Path) -> Iterator[tuple[str, Path]]:
    """Host and port of a server with TLS and two models, and its CA's file."""
    for name in ("sdxl", "slow"):
        (folder / "models" / name / "1").mkdir(parents=True)
        config = folder / "models" / name / "config.pbtxt"
        config.write_text(f"backend: BACKEND_FAKE\n{MODELS[name]}\n")
    ca, pem = folder / "ca.pem", folder / "server.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pem)
    flags = ("--tls-certificate", str(pem), "--tls-key", str(pem))
    with serving(folder / "models", *flags) as server:
        for name in ("sdxl", "slow"):
            server.until("model", model=f"{name}/1", state="ready")
        yield f"127.0.0.1:{server.until('listening')['http_port']}", ca


def test_fal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = python_of("fal_client")
    # The client speaks TLS alone.
    with secure(tmp_path) as (host, ca):
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
        monkeypatch.setenv("FAL_KEY", "key:secret")
        monkeypatch.setenv("FAL_RUN_HOST", host)
        monkeypatch.setenv("FAL_QUEUE_RUN_HOST", f"{host}/queue")
        models = ("fal-ai/sdxl", "fal-ai/slow")
        call([python, CALLERS / "fal_images.py", f"https://{host}", *models])


def test_fal_by_huggingface_hub(service: Service) -> None:
    call([python_of("huggingface_hub-2.4.0"), CALLERS / "hugging_face_fal.py", service.url])


@pytest.mark.parametrize("version", ["0.25.2", "2.4.0"])
def test_huggingface_hub(service: Service, version: str) -> None:
    python = python_of(f"huggingface_hub-{version}")
    call([python, CALLERS / "hugging_face_images.py", service.url, SDXL, FILL])


def node(script: Path, folder: Path, *arguments: str) -> str:
    """What the script prints in the folder, which gets the packages."""
    packages = INSTALLED / "node" / "node_modules"
    if not packages.exists():
        pytest.skip("`make compat` installs these clients where there is node")
    # node looks for packages beside the script alone.
    (folder / "node_modules").symlink_to(packages)
    return call(["node", script, *arguments], cwd=folder)


def test_openai_and_hugging_face_for_node(service: Service, tmp_path: Path) -> None:
    script = tmp_path / "images.mjs"
    script.write_text((CALLERS / "images.mjs").read_text())
    node(script, tmp_path, service.url, SDXL, FILL)


def test_fal_for_node_and_its_providers(service: Service, tmp_path: Path) -> None:
    script = tmp_path / "fal.mjs"
    script.write_text((CALLERS / "fal.mjs").read_text())
    node(script, tmp_path, service.url, "fal-ai/sdxl", "fal-ai/slow")


def test_connect_for_the_web_and_for_node(service: Service, tmp_path: Path) -> None:
    descriptors = tmp_path / "descriptors.binpb"
    subprocess.run([BUF, "build", PROTOS, "-o", descriptors], check=True)
    files = FileDescriptorSet.FromString(descriptors.read_bytes())
    # For the details of errors.
    error_details_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    descriptors.write_bytes(files.SerializeToString())
    script = tmp_path / "connect.mjs"
    script.write_text((CALLERS / "connect.mjs").read_text())
    mark = len(service.server.log)
    node(script, tmp_path, service.url, str(descriptors))
    stopped = [one for one in service.server.log[mark:] if one.get("event") == "job stopped"]
    assert len(stopped) == 8  # once in each way that it calls


def test_page_2_row_1_the_snippet_of_huggingface_js(service: Service, tmp_path: Path) -> None:
    written = (SNIPPETS / "hugging-face-inference.mjs").read_text()
    assert DEV in written
    script = tmp_path / "snippet.mjs"
    script.write_text(written.replace("http://127.0.0.1:8000", service.url))
    node(script, tmp_path)
    assert Image.open(tmp_path / "astronaut.png").format == "PNG"
