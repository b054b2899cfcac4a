"""Which replicas a size belongs to: by its share of the work, most of it beside few others."""

from __future__ import annotations

import random

import pytest

from darkroom_server.scheduling.homes import (
    GUEST_SHARE,
    LEAST_SHARE,
    MOST_GROUPS,
    MOST_GUESTS,
    Homes,
)


def shared(work_s: dict[str, float], request_count: int = 2000) -> Homes:
    """Of so many requests, of each size as often, each with this work."""
    rng, made = random.Random(1), Homes()
    for group in rng.choices(list(work_s), k=request_count):
        made.note(group, work_s[group])
    return made


def test_one_size_belongs_everywhere_and_so_does_one_that_is_new() -> None:
    assert list(shared({"512": 1.0}).of("512", "abcd")) == list("abcd")
    assert list(Homes().of("512", "abcd")) == list("abcd")
    assert not shared({"512": 1.0}).of("512", "")


def test_sizes_have_replicas_by_their_work_and_small_ones_share_one() -> None:
    homes = shared({"a": 1.0, "b": 1.0, "c": 2.0, "d": 4.0})
    assert [list(homes.of(one, "wxyz")) for one in "abcd"] == [["w"], ["w"], ["x"], ["y", "z"]]


@pytest.mark.parametrize("replica_count", [1, 2, 3, 4, 7, 100])
def test_every_size_has_a_home_and_every_replica_a_size(replica_count: int) -> None:
    work_s = {"a": 1.0, "b": 1.6, "c": 2.3, "d": 4.0, "e": 0.01}
    homes, names = shared(work_s), [f"{number:03}" for number in range(replica_count)]
    found = {one: homes.of(one, names) for one in work_s}
    assert all(found.values())
    assert {name for some in found.values() for name in some} == set(names)
    # A replica that two share is one of which each has a part worth having.
    most_shared = sum(map(len, found.values())) - replica_count
    assert most_shared <= len(work_s)
    assert len(found["d"]) >= replica_count * 0.4 - LEAST_SHARE - 1


def test_what_comes_changes_what_belongs_where() -> None:
    homes = shared({"a": 1.0, "b": 1.0})
    assert len(homes.of("a", "wxyz")) == 2
    for _ in range(5000):
        homes.note("b", 1.0)
    assert len(homes.of("a", "wxyz")) == 1
    assert set(homes.of("b", "wxyz")) == set("wxyz")


def test_sizes_without_end_are_not_all_remembered() -> None:
    homes = Homes()
    for number in range(10 * MOST_GROUPS):
        homes.note("large", 10.0)
        homes.note(number, 1.0)
    assert len(homes._work_s) <= MOST_GROUPS + 1
    assert "large" in homes._work_s


def test_a_million_requests_later_shares_are_still_numbers() -> None:
    homes = Homes()
    for _ in range(500_000):
        homes.note("a", 1.0)
        homes.note("b", 3.0)
    assert [list(homes.of(one, "wxyz")) for one in "ab"] == [["w"], ["x", "y", "z"]]


def test_few_may_be_guests() -> None:
    homes = Homes()
    at_once = sum(homes.take_guest() for _ in range(100))
    assert at_once == MOST_GUESTS
    taken = 0
    for _ in range(1000):
        homes.note("a", 1.0)
        taken += homes.take_guest()
    assert taken == pytest.approx(GUEST_SHARE * 1000, abs=1)
