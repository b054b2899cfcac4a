"""How often a pipeline fills a masked part with what the prompt says and keeps the rest."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from darkroom_training.evaluation import Mask, Pixels, Verdict, judge
from darkroom_training.measurement import (
    SDXL_SETTINGS,
    DrawSettings,
    Figures,
    batches,
    tally,
)
from darkroom_training.scenes import (
    COLORS,
    PLACE_PHRASES,
    SIZE_PX,
    ObjectScene,
    article,
    draw,
)
from darkroom_training.shapes import SHAPES

#: The place that is filled, and where the original has its object.
OPPOSITE = {
    "left": "right",
    "right": "left",
    "top": "bottom",
    "bottom": "top",
    "center": "center",
}
#: Margin around the central mask, a multiple of the autoencoder's factor.
_MARGIN_PX = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class FillTrial:
    """A drawn picture, the part to repaint, and what should be there afterwards.

    `original` is uint8 [256, 256, 3], `mask` bool [256, 256], true where to repaint.
    """

    original: Pixels
    mask: Mask
    wanted: ObjectScene
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FillResult:
    """What came out, and the same with the original pasted over what was not to change.

    `outside_difference` is the mean change outside the mask before pasting, in levels of 255.
    """

    trial: FillTrial
    raw: Pixels
    picture: Pixels
    verdict: Verdict
    outside_difference: float


def sample_fill_trials(count: int, seed: int) -> list[FillTrial]:
    """Half pictures and central squares to repaint; the same for the same seed."""
    rng = random.Random(f"fill trials {seed}")
    return [_sample(rng) for _ in range(count)]


def _sample(rng: random.Random) -> FillTrial:
    place = rng.choice(tuple(OPPOSITE))
    background, old, new = rng.sample(tuple(COLORS), 3)
    before = ObjectScene(rng.choice(SHAPES), old, background, OPPOSITE[place])
    wanted = ObjectScene(rng.choice(SHAPES), new, background, place)
    where = f" {PLACE_PHRASES[place][0]}".rstrip()
    thing = article(f"{new} {wanted.shape}")
    return FillTrial(
        original=draw(before, rng),
        mask=mask_at(place),
        wanted=wanted,
        prompt=f"{thing}{where} on {article(background)} background",
        seed=rng.randrange(2**32),
    )


def mask_at(place: str) -> Mask:
    """The half of the picture at a place, or its central square: bool [256, 256]."""
    mask = np.zeros((SIZE_PX, SIZE_PX), dtype=np.bool_)
    half = SIZE_PX // 2
    inner = slice(_MARGIN_PX, SIZE_PX - _MARGIN_PX)
    areas = {
        "left": (slice(None), slice(None, half)),
        "right": (slice(None), slice(half, None)),
        "top": (slice(None, half), slice(None)),
        "bottom": (slice(half, None), slice(None)),
        "center": (inner, inner),
    }
    mask[areas[place]] = True
    return mask


def measure_fill(
    pipeline: Any,
    trials: Sequence[FillTrial],
    on_result: Callable[[], None] = lambda: None,
    *,
    settings: DrawSettings = SDXL_SETTINGS,
) -> list[FillResult]:
    """Fills every trial with a stock inpainting pipeline at the default settings and judges it."""
    pipeline.set_progress_bar_config(disable=True)
    results = []
    for batch in batches(trials):
        pictures = pipeline(
            [trial.prompt for trial in batch],
            image=[Image.fromarray(trial.original) for trial in batch],
            mask_image=[Image.fromarray(trial.mask.astype(np.uint8) * 255) for trial in batch],
            height=SIZE_PX,
            width=SIZE_PX,
            strength=1.0,
            **settings.arguments(),
            generator=[torch.Generator("cpu").manual_seed(trial.seed) for trial in batch],
        ).images
        for trial, image in zip(batch, pictures, strict=True):
            results.append(judge_fill(trial, np.asarray(image.convert("RGB"))))
            on_result()
    return results


def judge_fill(trial: FillTrial, raw: Pixels) -> FillResult:
    """Compares what an inpainting pipeline made of a trial with what it should have made."""
    outside = ~trial.mask
    picture = raw.copy()
    picture[outside] = trial.original[outside]
    # What was there before is no part of the answer: only the repainted part is looked at.
    looked_at = picture.copy()
    looked_at[outside] = COLORS[trial.wanted.background]
    change = np.abs(raw.astype(np.int16) - trial.original)[outside]
    return FillResult(
        trial=trial,
        raw=raw,
        picture=picture,
        verdict=judge(looked_at, trial.wanted),
        outside_difference=float(change.mean()),
    )


def fill_figures(results: Sequence[FillResult]) -> Figures:
    """How many were right, of how many, and the mean change outside the mask before pasting."""
    changes = [result.outside_difference for result in results]
    return {
        **tally(result.verdict for result in results),
        "outside difference before pasting": round(sum(changes) / max(1, len(changes)), 2),
    }
