"""What is kept of an image that is filled, and how the new part joins it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from darkroom_server.backends.diffusers.pictures import keep_unmasked
from darkroom_server.domain.jobs import FillSpec, Pixels


def kept(image: np.ndarray, mask: np.ndarray, made: np.ndarray) -> np.ndarray:
    height_px, width_px = mask.shape
    fill = FillSpec(
        image=Pixels(width_px, height_px, 3, image.tobytes()),
        mask=Pixels(width_px, height_px, 1, mask.tobytes()),
        strength=1.0,
        preserve_unmasked=True,
    )
    return keep_unmasked(made, fill)


def flat(mask: np.ndarray, value: int) -> np.ndarray:
    return np.full((*mask.shape, 3), value, np.uint8)


def columns(width_px: int, height_px: int, first: int, last: int) -> np.ndarray:
    """A mask that repaints these columns."""
    mask = np.zeros((height_px, width_px), np.uint8)
    mask[:, first : last + 1] = 255
    return mask


@given(
    mask=arrays.arrays(np.uint8, (12, 17), elements=st.sampled_from([0, 127, 128, 255])),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_the_mask_keeps_is_kept_to_the_bit_and_no_value_is_beyond_both(
    mask: np.ndarray, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, made = rng.integers(0, 256, (2, 12, 17, 3), dtype=np.uint8)
    result = kept(image, mask, made)
    assert (result[mask < 128] == image[mask < 128]).all()
    assert (result >= np.minimum(image, made)).all()
    assert (result <= np.maximum(image, made)).all()


@pytest.mark.parametrize(
    ("shorter_px", "feather_px"), [(16, 1), (128, 1), (256, 2), (512, 4), (1024, 8), (2048, 8)]
)
def test_the_edge_is_soft_within_the_mask_for_a_128th_of_the_shorter_edge(
    shorter_px: int, feather_px: int
) -> None:
    width_px = max(shorter_px, 64)
    mask = columns(width_px, shorter_px, 20, width_px - 1)
    row = kept(flat(mask, 0), mask, flat(mask, 255))[shorter_px // 2, :, 0].astype(int)
    assert (row[:20] == 0).all()
    edge = row[20 : 20 + feather_px]
    assert (np.diff([0, *edge, 255]) > 0).all()
    # No seam at the picture's own edge either.
    assert (row[20 + feather_px :] == 255).all()


@pytest.mark.parametrize("width_px", [1, 2, 3, 5, 9])
def test_what_is_thin_is_new_in_its_middle(width_px: int) -> None:
    mask = columns(1024, 1024, 500, 499 + width_px)
    row = kept(flat(mask, 0), mask, flat(mask, 255))[512, :, 0]
    assert row[500 + width_px // 2] == 255
    assert row[499] == row[500 + width_px] == 0


def test_all_is_new_where_the_mask_keeps_nothing() -> None:
    mask = np.full((64, 64), 255, np.uint8)
    assert (kept(flat(mask, 0), mask, flat(mask, 200)) == 200).all()
