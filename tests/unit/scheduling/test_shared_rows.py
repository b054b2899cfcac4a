from __future__ import annotations

import pytest

from darkroom_server.scheduling.shared_rows import SharedRows


def proved() -> SharedRows:
    shared = SharedRows()
    for kinds, row_count in (((2,), 4), ((2,), 8), ((1,), 3), ((1, 2), 5)):
        shared.allow("small", kinds, row_count)
    return shared


@pytest.mark.parametrize(
    ("image_rows", "is_allowed"),
    [
        pytest.param((2,), True, id="one image is always exact"),
        pytest.param((2, 2), True, id="proved"),
        pytest.param((2, 2, 2), False, id="not proved"),
        pytest.param((1, 1, 1), True, id="proved for images of one row"),
        pytest.param((1, 2), False, id="as many rows, of other images"),
        pytest.param((2, 1, 2), True, id="of both, in any order"),
    ],
)
def test_steps_are_shared_as_they_were_proved(
    image_rows: tuple[int, ...], is_allowed: bool
) -> None:
    assert proved().allows("small", image_rows) == is_allowed
    assert proved().allows("large", image_rows) == (len(image_rows) == 1)


@pytest.mark.parametrize(("limit", "most"), [(1, 0), (3, 3), (4, 4), (7, 5), (32, 8)])
def test_the_largest_step_within_a_limit(limit: int, most: int) -> None:
    assert proved().most("small", limit) == most
    assert proved().most("large", limit) == 0


@pytest.mark.parametrize(
    ("image_rows", "count"),
    [((2, 2, 2), 2), ((2, 2, 1), 3), ((1, 2, 2, 1), 3), ((1, 1), 1), ((2,), 1)],
)
def test_the_most_images_from_the_first_on_that_may_share(
    image_rows: tuple[int, ...], count: int
) -> None:
    assert proved().longest("small", image_rows) == count


def test_where_nothing_else_changes_rows_every_step_is_shared() -> None:
    shared = SharedRows(is_open=True)
    assert shared.allows("any", (1, 2, 2, 1))
    assert shared.most("any", 7) == 7
