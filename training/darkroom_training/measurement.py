"""How often a pipeline draws what the prompt says: prompts, pictures, verdicts and figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from darkroom_training.evaluation import Pixels, Verdict, judge
from darkroom_training.scenes import (
    PLACES,
    SIZE_PX,
    ObjectScene,
    caption,
    is_held_out,
    random_scene,
)
from darkroom_training.shapes import SHAPES

STEP_COUNT = 20
GUIDANCE_SCALE = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawSettings:
    """How pictures of a model are drawn by default.

    `token_count` is what T5 prompts are padded to; None for pipelines without T5.
    """

    step_count: int
    guidance_scale: float
    token_count: int | None = None

    def arguments(self) -> dict[str, Any]:
        """The settings as a stock pipeline takes them."""
        lengths = {} if self.token_count is None else {"max_sequence_length": self.token_count}
        return {
            "num_inference_steps": self.step_count,
            "guidance_scale": self.guidance_scale,
            **lengths,
        }


SDXL_SETTINGS = DrawSettings(step_count=STEP_COUNT, guidance_scale=GUIDANCE_SCALE)
#: Pictures drawn in one call of the pipeline.
BATCH = 10
#: Share of the vocabulary's triples that training never saw.
HELD_OUT_SHARE = 0.1

#: What must hold of the prompts of an evaluation before weights are exported.
LEAST = {"both": 0.90, "shape": 0.75}
_FAULTS = {"both": "background and object at place"}

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A prompt, the scene it stands for, and the noise it is drawn from."""

    scene: ObjectScene
    prompt: str
    seed: int

    @property
    def background_named(self) -> bool:
        """Whether the prompt says anything of the background."""
        return "background" in self.prompt

    @property
    def held_out(self) -> bool:
        """Whether training never saw this shape, colour and background together."""
        return is_held_out(self.scene.shape, self.scene.color, self.scene.background)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The picture of a trial, uint8 [height, width, 3], and what it shows of the scene."""

    trial: Trial
    picture: Pixels
    verdict: Verdict


def sample_trials(count: int, seed: int, *, held_out_only: bool = False) -> list[Trial]:
    """Prompts with one object each, over the whole vocabulary; the same for the same seed."""
    rng = random.Random(f"trials {seed}")
    trials: list[Trial] = []
    while len(trials) < count:
        held_out = held_out_only or rng.random() < HELD_OUT_SHARE
        scene = random_scene(rng, held_out=held_out)
        if isinstance(scene, ObjectScene):
            noise_seed = rng.randrange(2**32)
            trials.append(Trial(scene=scene, prompt=caption(scene, rng), seed=noise_seed))
    return trials


def measure(
    pipeline: Any,
    trials: Sequence[Trial],
    on_result: Callable[[], None] = lambda: None,
    *,
    settings: DrawSettings = SDXL_SETTINGS,
) -> list[Result]:
    """Draws every trial with a stock text-to-image pipeline at the default settings and judges it."""
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
            verdict = judge(picture, trial.scene, background_named=trial.background_named)
            results.append(Result(trial=trial, picture=picture, verdict=verdict))
            on_result()
    return results


def batches(items: Sequence[Any]) -> Iterator[Any]:
    """The items, `BATCH` at a time."""
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def figures(results: Sequence[Result]) -> Figures:
    """How many were right, of how many: overall and by what was asked for."""
    return {
        "overall": tally(r.verdict for r in results),
        "seen in training": tally(r.verdict for r in results if not r.trial.held_out),
        "held out": tally(r.verdict for r in results if r.trial.held_out),
        "by shape": {
            shape: tally(r.verdict for r in results if r.trial.scene.shape == shape)
            for shape in SHAPES
        },
        "by place": {
            place: tally(r.verdict for r in results if r.trial.scene.place == place)
            for place in PLACES
        },
    }


def tally(verdicts: Iterable[Verdict]) -> Figures:
    """Counts of what is right, and of what was asked for."""
    judged = list(verdicts)
    named = [v for v in judged if v.background is not None]
    return {
        "prompts": len(judged),
        "background": {"right": sum(bool(v.background) for v in named), "of": len(named)},
        "object at place": {"right": sum(v.object_at_place for v in judged), "of": len(judged)},
        "both": {"right": sum(v.colors for v in judged), "of": len(judged)},
        "shape": {"right": sum(v.shape for v in judged), "of": len(judged)},
    }


def share(count: Figures) -> float:
    """A count as a share, 0 when nothing was asked for."""
    return float(count["right"]) / count["of"] if count["of"] else 0.0


def gate_faults(overall: Figures, least: Mapping[str, float] = LEAST) -> list[str]:
    """Why weights with these overall figures are not good enough; empty when they are."""
    return [
        f"{_FAULTS.get(what, what)} right in {share(overall[what]):.1%}, less than {floor:.0%}"
        for what, floor in least.items()
        if share(overall[what]) < floor
    ]
