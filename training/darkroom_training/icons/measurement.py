"""How often a pipeline draws, or fills in, what a prompt says: trials, pictures, verdicts, figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from darkroom_training.icons.captions import caption
from darkroom_training.icons.classifier import Classifier
from darkroom_training.icons.fill_example import FillScene, random_fill
from darkroom_training.icons.judgement import Verdict, judge
from darkroom_training.icons.scenes import SIZE_PX, Pixels, Scene, draw, is_held_out, random_scene
from darkroom_training.icons.stamps import StampBook
from darkroom_training.measurement import DrawSettings, Figures, batches

#: Share of the trials whose scenes training never saw.
_HELD_OUT_SHARE = 0.1
#: Mean change outside the mask, in levels of 255, that the autoencoder alone may cause.
MOST_OUTSIDE = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A prompt, the scene it stands for, and the noise it is drawn from."""

    scene: Scene
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was asked for, the picture, uint8 [192, 192, 3], and what is right of it.

    `outside_difference`: mean change of what a fill had to keep, in levels of 255.
    """

    prompt: str
    scene: Scene
    picture: Pixels
    verdict: Verdict
    outside_difference: float = 0.0


def sample_trials(count: int, seed: int) -> list[Trial]:
    """Prompts with at least one thing each, over the whole grammar; the same for the same seed."""
    rng = random.Random(f"icon trials {seed}")
    trials: list[Trial] = []
    while len(trials) < count:
        scene = random_scene(rng, held_out=rng.random() < _HELD_OUT_SHARE)
        if scene.things:
            noise_seed = rng.randrange(2**32)
            trials.append(Trial(scene=scene, prompt=caption(scene, rng), seed=noise_seed))
    return trials


def sample_fills(count: int, seed: int, book: StampBook) -> list[FillScene]:
    """Pictures in which a new thing is to take a place; the same for the same seed."""
    rng = random.Random(f"icon fills {seed}")
    return [random_fill(rng, book, replaced_only=True) for _ in range(count)]


def measure(
    pipeline: Any,
    trials: Sequence[Trial],
    model: Classifier,
    on_result: Callable[[], None] = lambda: None,
    *,
    settings: DrawSettings,
) -> list[Result]:
    """Draws every trial with a stock text-to-image pipeline at these settings and judges it."""
    pipeline.set_progress_bar_config(disable=True)
    results = []
    for batch in batches(trials):
        pictures = pipeline(
            [trial.prompt for trial in batch],
            height=SIZE_PX,
            width=SIZE_PX,
            **settings.arguments(),
            generator=[torch.Generator("cpu").manual_seed(trial.seed) for trial in batch],
        ).images
        for trial, image in zip(batch, pictures, strict=True):
            picture = np.asarray(image.convert("RGB"))
            verdict = judge(model, picture, trial.scene)
            results.append(
                Result(prompt=trial.prompt, scene=trial.scene, picture=picture, verdict=verdict)
            )
            on_result()
    return results


def measure_fill(
    pipeline: Any,
    fills: Sequence[FillScene],
    model: Classifier,
    on_result: Callable[[], None] = lambda: None,
    *,
    settings: DrawSettings,
) -> list[Result]:
    """Fills every mask with a stock inpainting pipeline at these settings and judges it."""
    pipeline.set_progress_bar_config(disable=True)
    results = []
    for batch in batches(fills):
        pictures = pipeline(
            [fill.text for fill in batch],
            image=[Image.fromarray(fill.original) for fill in batch],
            mask_image=[Image.fromarray(fill.mask.astype(np.uint8) * 255) for fill in batch],
            height=SIZE_PX,
            width=SIZE_PX,
            strength=1.0,
            **settings.arguments(),
            generator=[torch.Generator("cpu").manual_seed(k) for k in range(len(batch))],
        ).images
        for fill, image in zip(batch, pictures, strict=True):
            results.append(judge_fill(model, fill, np.asarray(image.convert("RGB"))))
            on_result()
    return results


def judge_fill(model: Classifier, fill: FillScene, raw: Pixels) -> Result:
    """Compares what was made of a masked picture with what should have been."""
    picture = raw.copy()
    picture[~fill.mask] = fill.original[~fill.mask]
    # What is beside the mask was not for the model to choose: only the new thing is looked for.
    verdict = judge(model, picture, fill.wanted)
    change = np.abs(raw.astype(np.int16) - fill.original)[~fill.mask]
    return Result(
        prompt=fill.text,
        scene=fill.wanted,
        picture=picture,
        verdict=Verdict(
            things=verdict.things,
            count=True,
            background=None,
            fault=None if verdict.things else verdict.fault,
        ),
        outside_difference=float(change.mean()) if change.size else 0.0,
    )


def judge_true_scenes(model: Classifier, count: int, book: StampBook) -> Figures:
    """What the judge says of drawings that training never saw, where everything is right."""
    rng = random.Random("true icon scenes")
    verdicts = []
    while len(verdicts) < count:
        scene = random_scene(rng, held_out=True)
        verdicts.append(judge(model, draw(scene, rng, book), scene))
    return tally(verdicts)


def figures(results: Sequence[Result]) -> Figures:
    """How many were right, of how many: overall and by what was asked for."""
    groups: dict[str, Callable[[Scene], bool]] = {
        "one thing, large": lambda scene: scene.size == "large",
        "one thing at a place": lambda scene: (
            scene.size == "small" and scene.count == 1 and len(scene.things) == 1
        ),
        "two or three of a thing": lambda scene: scene.count > 1,
        "two different things": lambda scene: len(scene.things) == 2,
        "held out of training": is_held_out,
    }
    return {
        "overall": tally(result.verdict for result in results),
        **{
            name: tally(result.verdict for result in results if belongs(result.scene))
            for name, belongs in groups.items()
        },
    }


def fill_figures(results: Sequence[Result]) -> Figures:
    """The same of fills, with the mean change outside the masks."""
    changes = [result.outside_difference for result in results]
    return {
        **tally(result.verdict for result in results),
        "outside difference before pasting": round(sum(changes) / max(1, len(changes)), 2),
    }


def tally(verdicts: Iterable[Verdict]) -> Figures:
    """Counts of what is right, and of what was asked for."""
    judged = list(verdicts)
    named = [verdict for verdict in judged if verdict.background is not None]
    return {
        "prompts": len(judged),
        "things": {"right": sum(v.things for v in judged), "of": len(judged)},
        "count": {"right": sum(v.count for v in judged), "of": len(judged)},
        "background": {"right": sum(bool(v.background) for v in named), "of": len(named)},
        "all": {"right": sum(v.right for v in judged), "of": len(judged)},
    }
