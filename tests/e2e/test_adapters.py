"""Requests with different adapters share steps of a real server; each picture is diffusers' own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image, UnidentifiedImageError

from bench.serving import Server, connected, serving
from darkroom_client import AsyncClient, Client
from darkroom_client.errors import InvalidRequest
from darkroom_client.events import Event, Progress
from darkroom_client.results import Generation
from tests.parity.random_adapters import (
    ATTENTION,
    TEXTS,
    random_pairs,
    write_diffusers,
    write_kohya,
)

pytest.importorskip("peft")

REPOSITORY = Path(__file__).parents[2] / "model_repo"
MODEL = "tiny-sdxl"
#: What each request of a crowd is made with; the weights of the pipeline's own order.
CROWD: list[dict[str, float | None]] = [
    {"ink": 1.0},
    {"ink": -0.6, "wash": 0.7},
    {"wash": None},
    {},
]
#: Until requests of the size have been proved to share steps, at most.
SHARED_WITHIN_S = 300


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(REPOSITORY / MODEL, folder / MODEL, ignore=shutil.ignore_patterns("adapters"))
    torch.set_num_threads(1)
    pipeline = stock(folder)
    adapters = folder / MODEL / "adapters"
    for name in ("ink", "wash"):
        (adapters / name / "1").mkdir(parents=True)
    (adapters / "wash" / "adapter.pbtxt").write_text(
        'aliases: "someone/wash-lora" default_weight: 0.8 trigger_words: "wash"'
    )
    attention = random_pairs(pipeline.unet, ATTENTION, rank=4, seed=1, size=0.1)
    write_diffusers(adapters / "ink" / "1" / "ink.safetensors", {"unet": attention})
    parts = {
        "unet": random_pairs(pipeline.unet, ("to_q", "conv1"), rank=8, seed=2, size=0.05),
        "text_encoder": random_pairs(pipeline.text_encoder, TEXTS, rank=4, seed=3, size=0.1),
        "text_encoder_2": random_pairs(pipeline.text_encoder_2, TEXTS, rank=4, seed=4, size=0.1),
    }
    write_kohya(adapters / "wash" / "1" / "wash.safetensors", parts, alpha=4.0)
    return folder


def stock(folder: Path) -> Any:
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        folder / MODEL / "2", torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    flags = ("--worker-thread-count", "1", "--model-control", "poll", "--repository-poll", "1")
    with serving(repository, *flags) as server, connected(server):
        server.until_ready(MODEL)
        yield server


def by_stock(folder: Path, adapters: dict[str, float | None], seed: int) -> np.ndarray:
    pipeline = stock(folder)
    for name in adapters:
        file = folder / MODEL / "adapters" / name / "1" / f"{name}.safetensors"
        pipeline.load_lora_weights(str(file), adapter_name=name)
    if adapters:
        weights = [0.8 if weight is None else weight for weight in adapters.values()]
        pipeline.set_adapters(list(adapters), weights)
    made = pipeline(
        "a red circle",
        width=64,
        height=64,
        num_inference_steps=8,
        guidance_scale=2.5,
        generator=torch.Generator("cpu").manual_seed(seed),
    )
    return np.asarray(made.images[0])


async def crowd(server: Server) -> tuple[list[Generation], set[str]]:
    """The pictures, and the steps that all requests shared."""
    steps: list[set[str]] = [set() for _ in CROWD]

    async def one(client: AsyncClient, seed: int, adapters: dict[str, float | None]) -> Generation:
        def watch(event: Event) -> None:
            if isinstance(event, Progress) and event.batch is not None:
                steps[seed].add(event.batch.batch_id)

        return await client.generate(
            "a red circle",
            width=64,
            height=64,
            steps=8,
            guidance_scale=2.5,
            seed=seed,
            adapters=adapters,
            on_progress=watch,
        )

    async with AsyncClient(server.address) as client:
        made = await asyncio.gather(*(one(client, k, each) for k, each in enumerate(CROWD)))
    return list(made), set.intersection(*steps)


@pytest.mark.timeout(900)
def test_different_adapters_share_steps_and_are_those_of_diffusers(
    server: Server, repository: Path
) -> None:
    until_s = time.monotonic() + SHARED_WITHIN_S
    made, shared = asyncio.run(crowd(server))
    while not shared and time.monotonic() < until_s:
        made, shared = asyncio.run(crowd(server))
    assert shared
    for seed, (adapters, one) in enumerate(zip(CROWD, made, strict=True)):
        found = np.asarray(Image.open(io.BytesIO(one.images[0].content)))
        np.testing.assert_array_equal(found, by_stock(repository, adapters, seed), str(adapters))


def test_an_unknown_adapter_is_answered_with_the_nearest(server: Server) -> None:
    with Client(server.address) as client, pytest.raises(InvalidRequest, match="did you mean ink"):
        client.generate("a circle", adapters={"inc": 1.0})


def test_models_list_their_adapters(server: Server) -> None:
    with Client(server.address) as client:
        listed = {one.name: one for one in client.get_model(MODEL).adapters}
    assert listed.keys() >= {"ink", "wash"}
    wash = listed["wash"]
    assert (wash.ranks, wash.default_weight, wash.is_default) == ((4, 8), 0.8, True)
    assert wash.targets == ("text_encoder", "text_encoder_2", "unet")
    assert (wash.aliases, wash.trigger_words) == (("someone/wash-lora",), ("wash",))


@pytest.mark.timeout(600)
def test_adapters_come_and_go_while_requests_run(server: Server, repository: Path) -> None:
    """A new one and a new version are used as soon as they are seen; what is gone is unknown."""
    adapters = repository / MODEL / "adapters"

    def draw(client: Client, name: str) -> bytes:
        made = client.generate("a star", width=64, height=64, steps=2, seed=5, adapters={name: 1.0})
        return made.images[0].content

    with Client(server.address) as client:
        before = draw(client, "ink")
        shutil.copytree(adapters / "ink", adapters / "new")
        until_listed(client, lambda found: ("new", 1) in found)
        assert draw(client, "new") == before
        shutil.copytree(adapters / "wash" / "1", adapters / "new" / "2")
        until_listed(client, lambda found: ("new", 2) in found)
        assert draw(client, "new") == draw(client, "wash") != before
        assert draw(client, "new/1") == before
        shutil.rmtree(adapters / "new")
        until_listed(client, lambda found: ("new", 1) not in found)
        with pytest.raises(InvalidRequest, match="no adapter 'new'"):
            draw(client, "new")
        assert draw(client, "ink") == before


def until_listed(client: Client, is_seen: Callable[[set[tuple[str, int]]], bool]) -> None:
    until_s = time.monotonic() + SHARED_WITHIN_S
    while time.monotonic() < until_s:
        found = {(one.name, one.version) for one in client.get_model(MODEL).adapters}
        if is_seen(found):
            return
        time.sleep(0.2)
    pytest.fail("the repository is not looked at again")


@pytest.fixture(scope="module")
def wanted(server: Server) -> np.ndarray:
    """What every way of asking gets: over gRPC, by the Python client."""
    with Client(server.address) as client:
        with_it, without = (
            client.generate("a star", width=64, height=64, steps=2, seed=5, adapters=each)
            for each in ({"ink": 0.5}, {})
        )
    found = pixels(with_it.images[0].content)
    assert not np.array_equal(found, pixels(without.images[0].content))
    return found


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


OWN = {"prompt": "a star", "width": 64, "height": 64, "num_inference_steps": 2, "seed": 5}
LORAS = {"loras": [{"path": "ink", "scale": 0.5}]}
INPUTS = {key: value for key, value in OWN.items() if key != "prompt"}
#: Paths and bodies; `MODEL` goes where a path has no name.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": (
        "/v1/images/generations",
        {**OWN, "adapters": {"ink": 0.5}, "response_format": "b64_json"},
    ),
    "openai-loras": ("/v1/images/generations", {**OWN, **LORAS, "response_format": "b64_json"}),
    "fal": (f"/fal-ai/{MODEL}", {**OWN, **LORAS, "output_format": "png", "sync_mode": True}),
    "hyperbolic": (
        "/v1/image/generation",
        {
            "model_name": MODEL,
            **{name: value for name, value in OWN.items() if name != "num_inference_steps"},
            "steps": 2,
            "lora": {"ink": 0.5},
            "output_format": "png",
        },
    ),
    "huggingface": (f"/models/{MODEL}", {"inputs": "a star", "parameters": {**INPUTS, **LORAS}}),
    "replicate": (
        f"/v1/models/{MODEL}/predictions",
        {"input": {**OWN, "lora_weights": "ink", "lora_scale": 0.5, "output_format": "png"}},
    ),
    "replicate-extra": (
        f"/v1/models/{MODEL}/predictions",
        {"input": {**OWN, "extra_lora": "ink", "extra_lora_scale": 0.5, "output_format": "png"}},
    ),
    "nebula": ("/api/v1/images/generation", {"model": MODEL, **OWN, **LORAS}),
    "events": (
        "/darkroom/v1/generate",
        {
            "model": MODEL,
            "prompt": "a star",
            "widthPx": 64,
            "heightPx": 64,
            "stepCount": 2,
            "seed": 5,
            "adapters": [{"name": "ink", "weight": 0.5}],
        },
    ),
    "triton": (
        f"/v2/models/{MODEL}/generate",
        {
            "prompt": "a star",
            "width": 64,
            "height": 64,
            "steps": 2,
            "seed": 5,
            "adapters": "ink=0.5",
        },
    ),
}


def posted(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    return client.post(path, json=body, headers={"prefer": "wait", "accept": "image/png, */*"})


def image_in(answer: httpx.Response, client: httpx.Client) -> bytes:
    """The picture in an answer, wherever it is: the content, base64 or an address."""
    if answer.headers["content-type"].startswith("image/"):
        return answer.content
    for text in re.findall(r'"([^"]{40,})"', answer.text):
        if text.startswith("http"):
            return client.get(text).content
        head, _, tail = text.rpartition(",")
        if head.startswith("data:") or re.fullmatch(r"[A-Za-z0-9+/=]+", text):
            with contextlib.suppress(ValueError, UnidentifiedImageError):
                content = base64.b64decode(tail)
                pixels(content)
                return content
    pytest.fail(answer.text[:2000])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
def test_every_dialect_gives_the_picture_of_grpc(
    server: Server, wanted: np.ndarray, way: str
) -> None:
    path, body = WAYS[way]
    address = f"http://127.0.0.1:{server.until('listening')['http_port']}"
    with httpx.Client(base_url=address, timeout=300) as client:
        made = posted(client, path, body)
        assert made.status_code in (200, 201), made.text
        np.testing.assert_array_equal(pixels(image_in(made, client)), wanted)
        refused = posted(client, path, json.loads(json.dumps(body).replace("ink", "inc")))
    assert refused.status_code >= 400
    assert "did you mean ink" in refused.text


@pytest.mark.timeout(600)
def test_the_command_line_gives_it_too(server: Server, wanted: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "made.png"
    size = ("--size", "64x64", "--steps", "2", "--seed", "5")
    cli = [sys.executable, "-m", "darkroom_server.cli.main"]
    asked = [*cli, "generate", "a star", *size, "--adapter", "ink=0.5", "-o", str(file)]
    made = subprocess.run(
        [*asked, "--server", server.address], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    np.testing.assert_array_equal(pixels(file.read_bytes()), wanted)
    shown = subprocess.run(
        [*cli, "models", "show", MODEL, "--server", server.address],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ink/1" in shown.stdout
    assert "someone/wash-lora" in shown.stdout
