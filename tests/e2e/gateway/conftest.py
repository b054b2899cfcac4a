"""A real server with a model for each of the two pages' tasks, known by their hub ids."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from PIL import Image

from bench.serving import Server, connected, serving
from darkroom_client import Client

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
DEV = "black-forest-labs/FLUX.1-dev"
KLEIN = "black-forest-labs/FLUX.2-klein-4B"
HIDREAM = "HiDream-ai/HiDream-I1-Full"

_NO_NEGATIVE = " ".join(
    f'parameters: "{name}"'
    for name in (
        *("width_px", "height_px", "step_count", "guidance_scale", "seed", "image_count"),
        *("scheduler", "strength", "preserve_unmasked"),
    )
)
MODELS = {
    "sdxl": f'aliases: "{SDXL}" tasks: [TASK_TEXT_TO_IMAGE, TASK_IMAGE_TO_IMAGE, TASK_FILL]',
    "schnell": f'aliases: "{SCHNELL}" tasks: TASK_TEXT_TO_IMAGE {_NO_NEGATIVE}',
    "fill": f'aliases: "{FILL}" tasks: TASK_FILL {_NO_NEGATIVE}',
    "klein": f'aliases: "{KLEIN}" tasks: [TASK_TEXT_TO_IMAGE, TASK_EDIT]',
    "slow": 'aliases: "any/slow" fake { step_s: 0.05 }',
    "hidream": f'aliases: "{HIDREAM}" aliases: "fal-ai/hidream-i1-full" tasks: TASK_TEXT_TO_IMAGE',
    "dev": f'aliases: "{DEV}" aliases: "black-forest-labs/flux-dev" tasks: TASK_TEXT_TO_IMAGE',
}


@dataclass(frozen=True, slots=True)
class Service:
    server: Server
    grpc: Client
    url: str
    http: httpx.Client


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """After all tests of a module it still serves, and met no bug."""
    repository = tmp_path_factory.mktemp("models")
    for name, config in MODELS.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(f"backend: BACKEND_FAKE\n{config}\n")
    with serving(repository) as server, connected(server) as grpc:
        for name in MODELS:
            server.until("model", model=f"{name}/1", state="ready")
        url = f"http://127.0.0.1:{server.until('listening')['http_port']}"
        with httpx.Client(base_url=url, timeout=300) as http:
            yield Service(server, grpc, url, http)
            assert [image.seed for image in grpc.generate("x", seed=3).images] == [3]
            assert "unhandled error" not in {entry.get("event") for entry in server.log}


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def grey(shade: int, size: tuple[int, int] = (64, 64), form: str = "PNG") -> bytes:
    """A file of one grey."""
    return encoded(Image.new("L", size, shade), form)


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def opened(content: bytes | str) -> Image.Image:
    """The picture of a file, or of its base64."""
    content = base64.b64decode(content) if isinstance(content, str) else content
    return Image.open(io.BytesIO(content))
