"""Prompts are sampled over the vocabulary, pictures are judged, and the gate holds."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from darkroom_training.measurement import (
    GUIDANCE_SCALE,
    STEP_COUNT,
    Trial,
    figures,
    gate_faults,
    measure,
    sample_trials,
    share,
)
from darkroom_training.scenes import ObjectScene, draw


class Painter:
    """Stands in for a pipeline: draws the scenes it is told of, in the order of the prompts."""

    def __init__(self, scenes: list[ObjectScene]) -> None:
        self.scenes = list(scenes)
        self.calls: list[dict[str, Any]] = []

    def set_progress_bar_config(self, **_: object) -> None:
        pass

    def __call__(self, prompts: list[str], **settings: Any) -> Any:
        self.calls.append(settings)
        drawn = [Image.fromarray(draw(self.scenes.pop(0), random.Random(1))) for _ in prompts]
        return SimpleNamespace(images=drawn)


def _scene(trial: Trial, **other: str) -> ObjectScene:
    scene = trial.scene
    named = {"shape": scene.shape, "color": scene.color, "place": scene.place, **other}
    return ObjectScene(**named, background=scene.background, gradient_to=scene.gradient_to)


def test_the_same_seed_samples_the_same_prompts() -> None:
    assert sample_trials(20, seed=3) == sample_trials(20, seed=3)
    assert sample_trials(20, seed=3) != sample_trials(20, seed=4)


def test_prompts_cover_what_training_saw_and_what_it_did_not() -> None:
    trials = sample_trials(400, seed=0)
    assert 20 <= sum(trial.held_out for trial in trials) <= 60
    assert all(trial.held_out for trial in sample_trials(30, seed=0, held_out_only=True))


def test_every_prompt_says_what_it_is_judged_by() -> None:
    for trial in sample_trials(200, seed=0):
        assert f"{trial.scene.color} {trial.scene.shape}" in trial.prompt
        assert trial.background_named is (f" {trial.scene.background} " in trial.prompt)
        assert trial.scene.place == "center" or trial.scene.place in trial.prompt


def test_pictures_are_drawn_at_the_default_settings_from_their_own_noise() -> None:
    trials = sample_trials(3, seed=1)
    painter = Painter([trial.scene for trial in trials])
    measure(painter, trials)
    (call,) = painter.calls
    assert (call["num_inference_steps"], call["guidance_scale"]) == (STEP_COUNT, GUIDANCE_SCALE)
    assert [generator.initial_seed() for generator in call["generator"]] == [
        trial.seed for trial in trials
    ]


def test_a_pipeline_that_draws_what_it_is_told_passes() -> None:
    trials = sample_trials(25, seed=2)
    counted = figures(measure(Painter([trial.scene for trial in trials]), trials))
    assert gate_faults(counted["overall"]) == []
    assert share(counted["overall"]["both"]) >= 0.96


def test_a_pipeline_that_always_draws_circles_does_not_pass() -> None:
    trials = sample_trials(25, seed=2)
    circles = [_scene(trial, shape="circle") for trial in trials]
    overall = figures(measure(Painter(circles), trials))["overall"]
    assert [fault.split()[0] for fault in gate_faults(overall)] == ["shape"]


def test_a_pipeline_that_draws_everything_in_the_middle_does_not_pass() -> None:
    trials = sample_trials(25, seed=2)
    centered = [_scene(trial, place="center") for trial in trials]
    overall = figures(measure(Painter(centered), trials))["overall"]
    assert overall["background"]["right"] == overall["background"]["of"]
    assert [fault.split()[0] for fault in gate_faults(overall)] == ["background", "shape"]


def test_groups_add_up_to_the_whole() -> None:
    trials = sample_trials(25, seed=5)
    counted = figures(measure(Painter([trial.scene for trial in trials]), trials))
    for groups in (counted["by shape"], counted["by place"]):
        assert sum(group["prompts"] for group in groups.values()) == 25
    assert counted["seen in training"]["prompts"] + counted["held out"]["prompts"] == 25


@pytest.mark.parametrize(
    ("both", "shape", "passes"),
    [
        pytest.param(90, 75, True, id="exactly-enough"),
        pytest.param(89, 99, False, id="colors-too-few"),
        pytest.param(99, 74, False, id="shapes-too-few"),
    ],
)
def test_the_gate_asks_for_both_figures(both: int, shape: int, passes: bool) -> None:
    overall = {"both": {"right": both, "of": 100}, "shape": {"right": shape, "of": 100}}
    assert (gate_faults(overall) == []) is passes
