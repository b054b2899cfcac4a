"""The embedded FLUX models, served: the stock pipelines' pixels, masks of all kinds, aliases."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline, FluxPipeline
from PIL import Image, ImageDraw

from bench.serving import connected, serving
from darkroom_client import Client, ModelNotFound
from darkroom_training.evaluation import judge
from darkroom_training.scenes import COLORS, ObjectScene

REPOSITORY = Path(__file__).parents[2] / "model_repo"
DRAWS, FILLS = "tiny-flux-schnell", "tiny-flux-fill"
HUB_ID = "black-forest-labs/FLUX.1-schnell"
#: What the models' T5 tokenizers pad to; the stock pipelines must be told.
PROMPT_TOKENS = 32


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    flags = ("--worker-thread-count", "1", "--alias", f"{HUB_ID}={DRAWS}")
    with serving(REPOSITORY, *flags) as server, connected(server) as found:
        server.until_ready(DRAWS, FILLS)
        yield found


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(content)))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def picture() -> Image.Image:
    """A blue square left of the middle, on yellow."""
    image = Image.new("RGB", (256, 256), COLORS["yellow"])
    ImageDraw.Draw(image).rectangle((32, 96, 96, 160), fill=COLORS["blue"])
    return image


def mask_of(kind: str) -> Image.Image:
    mask = Image.new("L", (256, 256), 255 if kind == "white" else 0)
    pen = ImageDraw.Draw(mask)
    if kind == "half":
        pen.rectangle((128, 0, 255, 255), fill=255)
    if kind == "brush":
        pen.line([(150, 90), (200, 150), (160, 190)], fill=255, width=40, joint="curve")
    return mask


def stock(pipeline: Any, prompt: str, seed: int, **arguments: Any) -> np.ndarray[Any, Any]:
    """What a stock pipeline makes of a request, uint8 [256, 256, 3]."""
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        prompt,
        width=256,
        height=256,
        max_sequence_length=PROMPT_TOKENS,
        generator=torch.Generator("cpu").manual_seed(seed),
        **arguments,
    )
    return np.asarray(made.images[0])


@pytest.mark.parametrize("step_count", [1, 4, 8])
def test_generate_equals_the_stock_pipeline(client: Client, step_count: int) -> None:
    prompt = "a red circle on a blue background"
    [made] = client.generate(prompt, model=DRAWS, seed=3, steps=step_count).images
    pipeline = FluxPipeline.from_pretrained(REPOSITORY / DRAWS / "1", torch_dtype=torch.float32)
    expected = stock(pipeline, prompt, 3, num_inference_steps=step_count, guidance_scale=0.0)
    np.testing.assert_array_equal(pixels(made.content), expected)


def test_fill_equals_the_stock_pipeline(client: Client) -> None:
    prompt, mask = "a green star on the right on a yellow background", mask_of("half")
    [made] = client.fill(
        png(picture()), png(mask), prompt, model=FILLS, seed=5, preserve_unmasked=False
    ).images
    pipeline = FluxFillPipeline.from_pretrained(REPOSITORY / FILLS / "1", torch_dtype=torch.float32)
    arguments = {"num_inference_steps": 8, "guidance_scale": 30.0}
    expected = stock(pipeline, prompt, 5, image=picture(), mask_image=mask, **arguments)
    np.testing.assert_array_equal(pixels(made.content), expected)


def test_a_half_masked_picture_gets_what_was_asked_for_in_that_half(client: Client) -> None:
    prompt, mask = "a red circle on the right on a yellow background", mask_of("half")
    [made] = client.fill(png(picture()), png(mask), prompt, model=FILLS, seed=5).images
    seen = pixels(made.content).copy()
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(seen[outside], np.asarray(picture())[outside])
    seen[outside] = COLORS["yellow"]  # the blue square is no part of the answer
    assert judge(seen, ObjectScene("circle", "red", "yellow", "right")).right


def test_a_brush_stroke_changes_what_it_covers_and_nothing_else(client: Client) -> None:
    prompt, mask = "a red circle on the right on a yellow background", mask_of("brush")
    [made] = client.fill(png(picture()), png(mask), prompt, model=FILLS, seed=5).images
    change = np.abs(pixels(made.content).astype(int) - np.asarray(picture())).max(axis=2)
    covered = np.asarray(mask) > 0
    assert not change[~covered].any()
    assert (change[covered] > 64).any()


def test_an_all_black_mask_changes_nothing(client: Client) -> None:
    prompt, mask = "a red circle on a green background", mask_of("black")
    [made] = client.fill(png(picture()), png(mask), prompt, model=FILLS, seed=5).images
    np.testing.assert_array_equal(pixels(made.content), np.asarray(picture()))


def test_an_all_white_mask_replaces_everything(client: Client) -> None:
    prompt, mask = "a red circle on a green background", mask_of("white")
    [made] = client.fill(png(picture()), png(mask), prompt, model=FILLS, seed=5).images
    verdict = judge(pixels(made.content), ObjectScene("circle", "red", "green", "center"))
    assert verdict.background
    assert verdict.object_at_place


def test_a_size_off_the_grid_is_rounded_down(client: Client) -> None:
    image = picture().resize((1000, 750))
    mask = Image.new("L", image.size, 255)
    [made] = client.fill(png(image), png(mask), "a red star", model=FILLS, seed=1, steps=1).images
    assert Image.open(io.BytesIO(made.content)).size == (992, 736)


def test_an_alias_of_the_server_reaches_the_model(client: Client) -> None:
    [by_alias] = client.generate("a red star", model=HUB_ID, seed=1, steps=1).images
    [by_name] = client.generate("a red star", model=DRAWS, seed=1, steps=1).images
    assert by_alias.content == by_name.content


def test_a_real_model_is_not_found_where_nobody_said_what_to_use_instead(client: Client) -> None:
    with pytest.raises(ModelNotFound, match=r"darkroom pull black-forest-labs/FLUX\.1-Fill-dev"):
        client.fill(
            png(picture()), png(mask_of("half")), "x", model="black-forest-labs/FLUX.1-Fill-dev"
        )
