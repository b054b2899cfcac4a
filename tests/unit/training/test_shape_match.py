"""A silhouette is a shape only when it looks like it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from darkroom_training.shape_match import match_shape
from darkroom_training.shapes import SHAPES, coverage

_Y, _X = np.mgrid[-1:1:160j, -1:1:160j]
_RADIUS = np.hypot(_X, _Y)
_ANGLE = np.arctan2(_Y, _X)
_SIDE = 2 * np.pi / 5
_PENTAGON = _RADIUS * np.cos((_ANGLE + np.pi / 2) % _SIDE - _SIDE / 2) < 0.6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("softness_px", [0, 6], ids=["sharp", "soft"])
def test_every_shape_is_recognised(shape: str, softness_px: int) -> None:
    cover = coverage(shape, size_px=256, center=(120.0, 140.0), radius_px=54.0)
    mask = ndimage.gaussian_filter(cover, softness_px) > 0.5
    assert match_shape(mask).shape == shape


@settings(max_examples=40)
@given(
    shape=st.sampled_from(SHAPES),
    x=st.floats(80, 176),
    y=st.floats(80, 176),
    radius_px=st.floats(30, 70),
)
def test_size_and_position_do_not_matter(shape: str, x: float, y: float, radius_px: float) -> None:
    cover = coverage(shape, size_px=256, center=(x, y), radius_px=radius_px)
    assert match_shape(cover > 0.5).shape == shape


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param((_RADIUS < 0.7) & (_RADIUS > 0.35), id="ring"),
        pytest.param((_X / 0.78) ** 2 + (_Y / 0.6) ** 2 < 1, id="ellipse"),
        pytest.param((_RADIUS < 0.7) & (_Y < 0), id="half-disc"),
        pytest.param(((abs(_X) < 0.2) | (abs(_Y) < 0.2)) & (_RADIUS < 0.8), id="cross"),
        pytest.param(_PENTAGON, id="pentagon"),
        pytest.param(abs(_X) + abs(_Y) < 0.8, id="diamond"),
        pytest.param((abs(_X) < 0.65) & (abs(_Y) < 0.5), id="rectangle"),
        pytest.param((_Y > -0.6) & (abs(_X) < (0.7 - _Y) / 2), id="triangle-upside-down"),
        pytest.param(0.45 + 0.25 * np.cos(4 * _ANGLE) > _RADIUS, id="four-points"),
        pytest.param(0.5 + 0.12 * np.cos(5 * _ANGLE) > _RADIUS, id="flower"),
    ],
)
def test_other_silhouettes_are_no_shape(mask: npt.NDArray[np.bool_]) -> None:
    assert match_shape(mask).shape is None


@pytest.mark.parametrize("seed", range(12))
def test_a_blob_is_no_shape(seed: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((160, 160)), 12)
    field = noise / noise.std() - 1.6 * _RADIUS
    labels, _ = ndimage.label(field > np.percentile(field, 86))
    blob = labels == np.bincount(labels[labels > 0]).argmax()
    assert match_shape(blob).shape is None
