"""Exact pictures of a crowd whose worker is killed on the way, on a real server."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image, ImageDraw

from bench.serving import Server, connected, serving
from darkroom_client import AsyncClient
from darkroom_client.events import Event, Progress
from darkroom_client.results import Generation

REPOSITORY = Path(__file__).parents[2] / "model_repo"
MODEL = "tiny-sdxl"
THREADS = 1

#: Steps, guidance, schedulers, sizes; the first is at work when the worker dies.
REQUESTS: list[dict[str, Any]] = [
    {"prompt": "a red circle", "steps": 40},
    {"prompt": "a green star", "steps": 24, "guidance_scale": 1.0},
    {"prompt": "a blue heart", "steps": 20, "guidance_scale": 1.0, "scheduler": "DDIMScheduler"},
    {"prompt": "a white square", "steps": 12, "scheduler": "EulerAncestralDiscreteScheduler"},
    {"prompt": "an orange house", "steps": 10, "scheduler": "HeunDiscreteScheduler"},
    {"prompt": "the sea by day", "steps": 16, "width": 96, "scheduler": "UniPCMultistepScheduler"},
    {"prompt": "a black star", "steps": 16, "width": 96, "guidance_scale": 6.0},
    {"prompt": "hills at night", "steps": 20, "is_source": True, "strength": 0.6},
    {"prompt": "a red heart", "steps": 20, "is_source": True, "guidance_scale": 1.0},
    {"prompt": "a green star", "steps": 20, "is_fill": True, "strength": 0.7},
    {"prompt": "a white circle", "steps": 14, "is_fill": True, "guidance_scale": 1.0},
]


def sketch(width_px: int) -> Image.Image:
    image = Image.new("RGB", (width_px, 64), (250, 216, 52))
    ImageDraw.Draw(image).rectangle((16, 16, 40, 40), fill=(42, 98, 224))
    return image


def mask(width_px: int) -> Image.Image:
    made = Image.new("L", (width_px, 64), 0)
    ImageDraw.Draw(made).rectangle((8, 8, 48, 48), fill=255)
    return made


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Crowd:
    """Requests that come at once; the worker is killed when the first has taken five steps."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.killed_pid = 0

    async def served(self) -> list[Generation]:
        async with AsyncClient(self._server.address) as client:
            return await asyncio.gather(
                *(self._one(client, seed, dict(one)) for seed, one in enumerate(REQUESTS))
            )

    async def _one(self, client: AsyncClient, seed: int, options: dict[str, Any]) -> Generation:
        options = {"width": 64, "height": 64, "model": MODEL, "seed": seed} | options
        on_progress = self._watch if seed == 0 else None
        width_px = options["width"]
        if options.pop("is_fill", False):
            image, hole = png(sketch(width_px)), png(mask(width_px))
            del options["width"], options["height"]
            return await client.fill(image, hole, preserve_unmasked=False, **options)
        if options.pop("is_source", False):
            options["image"] = png(sketch(width_px))
            options.setdefault("strength", 0.8)
            del options["width"], options["height"]
        return await client.generate(on_progress=on_progress, **options)

    def _watch(self, event: Event) -> None:
        if not self.killed_pid and isinstance(event, Progress) and event.completed_step_count >= 5:
            self.killed_pid = self._server.worker_pid()
            os.kill(self.killed_pid, signal.SIGKILL)


def by_stock(pipeline: Any, seed: int, options: dict[str, Any]) -> np.ndarray:
    name = options.get("scheduler", "EulerDiscreteScheduler")
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config)
    width_px = options.get("width", 64)
    arguments: dict[str, Any] = {
        "prompt": options["prompt"],
        "num_inference_steps": options["steps"],
        "guidance_scale": options.get("guidance_scale", 2.0),
        "generator": torch.Generator("cpu").manual_seed(seed),
    }
    made: Any = pipeline
    if "is_fill" in options:
        made = StableDiffusionXLInpaintPipeline.from_pipe(pipeline, vae=pipeline.vae)
        arguments |= {"image": sketch(width_px), "mask_image": mask(width_px)}
        arguments |= {"width": width_px, "height": 64, "strength": options.get("strength", 1.0)}
    elif "is_source" in options:
        made = StableDiffusionXLImg2ImgPipeline.from_pipe(pipeline, vae=pipeline.vae)
        arguments |= {"image": sketch(width_px), "strength": options.get("strength", 0.8)}
    else:
        arguments |= {"width": width_px, "height": 64}
    made.set_progress_bar_config(disable=True)
    return np.asarray(made(**arguments).images[0])


@pytest.mark.timeout(900)  # a worker is loaded twice, on a machine that may be busy
def test_pictures_are_those_of_stock_though_the_worker_died(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / MODEL, tmp_path / MODEL)
    threads = ("--worker-thread-count", str(THREADS))
    with serving(tmp_path, *threads) as server, connected(server):
        server.until_ready(MODEL)
        crowd = Crowd(server)
        served = asyncio.run(crowd.served())
        died = server.until("worker died")
        assert died["jobs_at_work"] >= 1
        # What the first had done by then was kept, and is not done again.
        assert server.until("image resumed")["completed_step_count"] >= 3
        assert server.worker_pid() != crowd.killed_pid
    torch.set_num_threads(THREADS)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        tmp_path / MODEL / "2", torch_dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    for seed, (options, made) in enumerate(zip(REQUESTS, served, strict=True)):
        found = np.asarray(Image.open(io.BytesIO(made.images[0].content)))
        np.testing.assert_array_equal(found, by_stock(pipeline, seed, options), str(options))
