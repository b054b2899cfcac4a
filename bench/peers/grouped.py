"""What every peer's user writes: the pipeline behind a call that takes requests of any parameters.

A pipeline takes parameters once for a whole batch, so requests with equal ones go together.
"""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

Asked = dict[str, Any]
#: What a pipeline takes once for all of a batch.
SHARED = ("steps", "guidance_scale", "size_px", "scheduler")


class GroupedPipeline:
    """A stock pipeline; not to be called from two threads at once."""

    def __init__(self, folder: str, thread_count: int) -> None:
        import torch
        from diffusers import StableDiffusionXLPipeline

        torch.set_num_threads(thread_count)
        self._pipe = StableDiffusionXLPipeline.from_pretrained(folder)
        self._pipe.set_progress_bar_config(disable=True)
        self._config = self._pipe.scheduler.config

    def run(self, batch: list[Asked]) -> list[bytes]:
        """A PNG for each request, in their order."""
        groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for at, one in enumerate(batch):
            groups[key_of(one)].append(at)
        made: list[bytes] = [b""] * len(batch)
        for places in groups.values():
            images = self._run_equal([batch[at] for at in places])
            for at, image in zip(places, images, strict=True):
                made[at] = image
        return made

    def _run_equal(self, batch: list[Asked]) -> list[bytes]:
        import diffusers
        import torch

        first = batch[0]
        if type(self._pipe.scheduler).__name__ != first["scheduler"]:
            self._pipe.scheduler = getattr(diffusers, first["scheduler"]).from_config(self._config)
        made = self._pipe(
            [one["prompt"] for one in batch],
            num_inference_steps=first["steps"],
            guidance_scale=first["guidance_scale"],
            height=first["size_px"],
            width=first["size_px"],
            generator=[torch.Generator("cpu").manual_seed(one["seed"]) for one in batch],
        )
        return [_png(image) for image in made.images]


def key_of(asked: Asked) -> tuple[Any, ...]:
    """Requests with equal keys can go through a pipeline together."""
    return tuple(asked[name] for name in SHARED)


def _png(image: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1)
    return target.getvalue()
