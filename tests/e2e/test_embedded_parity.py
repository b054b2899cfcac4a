"""The service against the stock diffusers pipeline on the embedded model, pixel for pixel."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
from PIL import Image, ImageDraw

from bench.serving import connected, serving
from darkroom_client import Client
from darkroom_training.icons import classifier
from darkroom_training.icons.stamps import COLORS

REPOSITORY = Path(__file__).parents[2] / "model_repo"
MODEL = "tiny-sdxl"
THREADS = 1

REQUESTS: list[dict[str, Any]] = [
    {"prompt": "a red circle on a blue background", "seed": 1},
    {"prompt": "a green star on a white background", "seed": 0},
    {"prompt": "a blue heart", "seed": 2**31, "steps": 5},
    {"prompt": "an orange house at the top", "seed": 7, "guidance_scale": 1.0},
    {"prompt": "a white square on a red background", "seed": 8, "guidance_scale": 0.0},
    {"prompt": "a purple star", "seed": 9, "guidance_scale": 7.5, "steps": 30},
    {"prompt": "mountains at sunset", "seed": 3, "width": 384, "height": 256},
    {"prompt": "the sea by day", "seed": 4, "width": 128, "height": 192, "steps": 1},
    {"prompt": "a red heart", "seed": 5, "negative_prompt": "a blue background"},
    {"prompt": "a red heart", "seed": 5, "negative_prompt": "a star", "steps": 8},
    {"prompt": "a black triangle", "seed": 6, "scheduler": "DDIMScheduler", "steps": 10},
    {"prompt": "a black circle", "seed": 6, "scheduler": "DPMSolverMultistepScheduler"},
    {"prompt": "a yellow star", "seed": 6, "scheduler": "EulerAncestralDiscreteScheduler"},
    {"prompt": "a yellow square", "seed": 6, "scheduler": "UniPCMultistepScheduler", "steps": 9},
    {"prompt": "hills at night", "seed": 6, "scheduler": "HeunDiscreteScheduler", "steps": 6},
    {"prompt": "hills by day", "seed": 6, "scheduler": "PNDMScheduler", "steps": 12},
]

FILLS: list[dict[str, Any]] = [
    {"prompt": "a green star", "seed": 11},
    {"prompt": "a white circle", "seed": 12, "strength": 0.7, "steps": 15},
    {"prompt": "a red heart", "seed": 13, "negative_prompt": "blue", "guidance_scale": 4.0},
    {"prompt": "a plain blue background", "seed": 14, "scheduler": "DDIMScheduler", "steps": 8},
]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    threads = ("--worker-thread-count", str(THREADS))
    with serving(REPOSITORY, *threads) as server, connected(server) as found:
        server.until_ready(MODEL)
        yield found


@pytest.fixture(scope="module")
def pipeline() -> Any:
    torch.set_num_threads(THREADS)
    version = max((REPOSITORY / MODEL).glob("[1-9]*"), key=lambda path: int(path.name))
    loaded = StableDiffusionXLPipeline.from_pretrained(version, torch_dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def stock_arguments(pipeline: Any, request: dict[str, Any]) -> dict[str, Any]:
    name = request.get("scheduler", "EulerDiscreteScheduler")
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    return {
        "prompt": request["prompt"],
        "negative_prompt": request.get("negative_prompt"),
        "num_inference_steps": request.get("steps", 20),
        "guidance_scale": request.get("guidance_scale", 2.0),
        "width": request.get("width", 192),
        "height": request.get("height", 192),
        "generator": torch.Generator("cpu").manual_seed(request["seed"]),
    }


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r['prompt']}-{r['seed']}")
def test_generate_equals_the_stock_pipeline(
    client: Client, pipeline: Any, request_: dict[str, Any]
) -> None:
    [made] = client.generate(**request_, model=MODEL).images
    stock = pipeline(**stock_arguments(pipeline, request_)).images[0]
    np.testing.assert_array_equal(pixels(made.content), np.asarray(stock))


@pytest.mark.parametrize("request_", FILLS, ids=lambda r: r["prompt"])
def test_fill_equals_the_stock_pipeline(
    client: Client, pipeline: Any, request_: dict[str, Any]
) -> None:
    image = Image.new("RGB", (192, 192), (250, 216, 52))
    ImageDraw.Draw(image).rectangle((72, 72, 120, 120), fill=(42, 98, 224))
    mask = Image.new("L", (192, 192), 0)
    ImageDraw.Draw(mask).rectangle((48, 48, 144, 144), fill=255)
    [made] = client.fill(
        png(image), png(mask), **request_, model=MODEL, preserve_unmasked=False
    ).images
    arguments = stock_arguments(pipeline, request_)
    # Named, because from_pipe passes on only autoencoders of the class in its signature.
    inpainting = StableDiffusionXLInpaintPipeline.from_pipe(pipeline, vae=pipeline.vae)
    inpainting.set_progress_bar_config(disable=True)
    strength = request_.get("strength", 1.0)
    stock = inpainting(**arguments, image=image, mask_image=mask, strength=strength).images[0]
    np.testing.assert_array_equal(pixels(made.content), np.asarray(stock))


def test_a_reported_seed_makes_the_picture_again(client: Client) -> None:
    first = client.generate("a red star", steps=4, model=MODEL).images[0]
    again = client.generate("a red star", steps=4, seed=first.seed, model=MODEL).images[0]
    assert first.content == again.content


def test_image_i_of_n_is_the_image_of_seed_plus_i(client: Client) -> None:
    several = client.generate("a red star", steps=4, seed=40, count=3, model=MODEL).images
    assert [one.seed for one in several] == [40, 41, 42]
    alone = client.generate("a red star", steps=4, seed=41, model=MODEL).images[0]
    assert several[1].content == alone.content


def test_a_fill_draws_what_was_asked_in_the_mask_and_changes_nothing_else(client: Client) -> None:
    image = Image.new("RGB", (192, 192), COLORS["yellow"])
    ImageDraw.Draw(image).rectangle((72, 72, 120, 120), fill=COLORS["blue"])
    mask = Image.new("L", (192, 192), 0)
    ImageDraw.Draw(mask).rectangle((20, 20, 171, 171), fill=255)
    prompt = "a cat on a yellow background"
    [made] = client.fill(png(image), png(mask), prompt, seed=1, model=MODEL).images
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(pixels(made.content)[outside], np.asarray(image)[outside])
    middle = classifier.Place(32, 32, 128)
    [seen] = classifier.name(classifier.kept(), pixels(made.content)[None], [middle])
    assert seen.concept == "cat"
