"""What is fuzzed: each kind has its seeds, and takes any bytes without anything unforeseen.

A kind raises for a finding: any exception that is none of the service's own words.
"""

from __future__ import annotations

import asyncio
import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from darkroom.v1.image_service_pb2 import FillRequest, GenerateRequest
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.image_decoding.images import ImageLimits, decode, to_rgb
from darkroom_server.repository.adapters.layers import Misfit, check_adapter
from darkroom_server.repository.weights import BadWeights
from darkroom_server.requests.prepare import prepare
from darkroom_server.wire.messages import parse_fill, parse_generate
from tests.unit.example_models import FLUX_FILL, SDXL
from tests.unit.image_decoding.pictures import encoded, gradient
from tests.unit.image_decoding.pictures_here import PicturesHere
from tests.unit.repository.builders import SDXL_INDEX, Repository, with_header

CORPUS = Path(__file__).with_name("corpus")
LIMITS = ImageLimits(max_bytes=1_000_000, max_pixel_count=100_000)
#: Where folders of models are written: memory, where there is such a disk.
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of input: what it is made from, and what takes it; its part of all inputs."""

    name: str
    seeds: list[bytes]
    take: Callable[[bytes], None]
    weight: int


def _seeds(name: str, *more: bytes) -> list[bytes]:
    """What is made here, and what was found before."""
    return [*more, *(path.read_bytes() for path in sorted((CORPUS / name).glob("*")))]


def _messages() -> list[bytes]:
    picture = encoded(gradient())
    plain = GenerateRequest(prompt="a cat", width_px=64, height_px=64, step_count=4, seed=3)
    source = GenerateRequest(prompt="a cat", model="models/sdxl", image_count=2)
    source.image.content = picture
    source.preview.interval_step_count = 2
    fill = FillRequest(prompt="a cat", step_count=4)
    fill.image.content, fill.mask.content = picture, picture
    return [one.SerializeToString() for one in (plain, source, fill)]


def take_message(content: bytes) -> None:
    """As a request of each method, up to what would run."""
    for message, parse, model in (
        (GenerateRequest(), parse_generate, SDXL),
        (FillRequest(), parse_fill, FLUX_FILL),
    ):
        with suppress(DecodeError, DarkroomError):
            message.ParseFromString(content)
            _, request = parse(message)
            asyncio.run(prepare(request, model, pictures=PicturesHere(), choose_seed=lambda _: 7))


def take_image(content: bytes) -> None:
    """As an image of a request."""
    with suppress(DarkroomError):
        to_rgb(decode(content, "image", LIMITS), "image", flatten=True)


class _Folders:
    """A repository with a bystander, of which one file is replaced."""

    def __init__(self) -> None:
        home = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz", dir=home)
        self.repository = Repository(Path(self._folder.name))
        self.repository.fake("bystander")
        self.repository.fake("m")
        self.repository.pipeline("p")

    def take(self, name: str, content: bytes, model: str) -> None:
        """Raises AssertionError where the model is neither served nor explained."""
        path = self.repository.root / name
        kept = path.read_bytes() if path.exists() else None
        self.repository.write(name, content)
        scan = self.repository.scan()
        if kept is None:
            path.unlink()
        else:
            path.write_bytes(kept)
        names = {one.info.name for one in scan.models}
        assert "bystander" in names
        assert (model in names) != (model in scan.broken)


def kinds() -> list[Kind]:
    """All of them."""
    folders = _Folders()
    root = folders.repository.root
    index = json.dumps(SDXL_INDEX).encode()
    weights = next((root / "p").rglob("*.safetensors")).read_bytes()
    unet = next((root / "p").rglob("unet/config.json")).read_bytes()
    files = ("1/model_index.json", "1/unet/config.json", "1/vae/config.json")

    def take_folder(content: bytes) -> None:
        name = files[len(content) % len(files)]
        folders.take(f"p/{name}", content, "p")

    def take_weights(content: bytes) -> None:
        folders.take("p/1/unet/diffusion_pytorch_model.safetensors", content, "p")

    pictures = [encoded(gradient(), kind) for kind in ("PNG", "JPEG", "WEBP")]
    return [
        Kind("messages", _seeds("messages", *_messages()), take_message, 40),
        Kind("images", _seeds("images", *pictures), take_image, 40),
        Kind(
            "configs",
            _seeds("configs", *_configs()),
            lambda content: folders.take("m/config.pbtxt", content, "m"),
            10,
        ),
        Kind("folders", _seeds("folders", index, unet), take_folder, 4),
        Kind("weights", _seeds("weights", weights), take_weights, 3),
        Kind("adapters", _seeds("adapters", *_adapters()), _take_adapter, 3),
    ]


def _configs() -> list[bytes]:
    repository = Path(__file__).parents[2] / "model_repo"
    found = [path.read_bytes() for path in sorted(repository.glob("*/config.pbtxt"))]
    return [
        b'backend: BACKEND_FAKE fake { step_s: 0.01 } version_labels { key: "a" value: 1 }',
        *found,
    ]


def _adapters() -> list[bytes]:
    header = {
        f"unet.mid_block.attentions.0.proj_in.lora_{one}.weight": {
            "dtype": "F32",
            "shape": [4, 4],
            "data_offsets": [at, at + 64],
        }
        for one, at in (("A", 0), ("B", 64))
    }
    return [with_header(json.dumps(header).encode(), struct.pack("<32f", *range(32)))]


def _take_adapter(content: bytes) -> None:
    """Its layers against a base that has one of them."""
    base = {"unet": {"mid_block.attentions.0.proj_in": (4, 4)}}
    home = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.NamedTemporaryFile(dir=home) as file:
        file.write(content)
        file.flush()
        with suppress(Misfit, BadWeights):
            check_adapter(Path(file.name), len(content), base)
