"""A fill is judged by the part it repaints, and by what it leaves alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from darkroom_training.fill_measurement import (
    fill_figures,
    judge_fill,
    mask_at,
    sample_fill_trials,
)
from darkroom_training.scenes import PLACES, draw


@pytest.mark.parametrize("place", PLACES)
def test_a_mask_holds_the_place_it_is_named_after(place: str) -> None:
    mask = mask_at(place)
    x, y = (round(share * 255) for share in PLACES[place])
    assert mask[y, x]
    assert 0.3 < mask.mean() <= 0.5


def test_what_was_asked_for_in_the_mask_passes_and_the_rest_is_the_original() -> None:
    for trial in sample_fill_trials(12, seed=0):
        result = judge_fill(trial, draw(trial.wanted, random.Random(7)))
        assert result.verdict.right, result.verdict.fault
        assert (result.picture[~trial.mask] == trial.original[~trial.mask]).all()


def test_leaving_the_picture_as_it_was_does_not_pass() -> None:
    for trial in sample_fill_trials(12, seed=1):
        result = judge_fill(trial, trial.original)
        assert not result.verdict.object_at_place
        assert result.outside_difference == 0


def test_changes_outside_the_mask_are_counted_before_pasting() -> None:
    (trial,) = sample_fill_trials(1, seed=2)
    shifted = np.where(trial.original < 250, trial.original + 3, trial.original - 3)
    results = [judge_fill(trial, shifted.astype(np.uint8))]
    assert fill_figures(results)["outside difference before pasting"] == 3.0
