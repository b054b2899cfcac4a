"""Where labels point, and which requests they are given: as tables, and by many ids."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom_server.lifecycle.labels import MovedLabels, in_force, label_for


@pytest.mark.parametrize(
    ("wanted", "before", "ready", "loaded", "found"),
    [
        pytest.param(2, 1, {1, 2}, {1, 2}, 2, id="moves-to-one-that-serves"),
        pytest.param(2, 1, {1}, {1, 2}, 1, id="stays-until-then"),
        pytest.param(2, None, {1}, {1, 2}, 2, id="a-new-one-waits-with-its-version"),
        pytest.param(2, 1, set(), {2}, 2, id="where-it-was-has-left"),
        pytest.param(2, None, {1}, {1}, None, id="its-version-is-not-loaded"),
        pytest.param(2, 1, {1}, {1}, 1, id="its-version-is-not-there-yet"),
    ],
)
def test_rule_6_a_label_points_only_at_what_serves(
    wanted: int, before: int | None, ready: set[int], loaded: set[int], found: int | None
) -> None:
    known = {} if before is None else {"stable": before}
    expected = {} if found is None else {"stable": found}
    assert in_force({"stable": wanted}, known, ready=ready, loaded=loaded) == expected


def test_what_requests_moved_counts_before_the_configuration() -> None:
    moved = MovedLabels().moved("stable", 1, None).moved("canary", 2, 5.0).deleted("old")
    assert moved.over({"stable": 3, "old": 1, "kept": 4}) == {"stable": 1, "canary": 2, "kept": 4}
    assert moved.shares_over({"old": 50, "kept": 1}) == {"canary": 5.0, "kept": 1}
    # A share stays with its label until it is told otherwise.
    assert moved.moved("canary", 3, None).shares_over({}) == {"canary": 5.0}
    assert moved.moved("canary", 3, 0.0).shares_over({}) == {}


@pytest.mark.parametrize(
    ("key", "model", "shares", "label"),
    [
        pytest.param("request-0", "m", {}, None, id="no-shares"),
        pytest.param("request-0", "m", {"canary": 100.0}, "canary", id="all"),
        # The ids are drawn at 60.93 and 95.63 percent in m, at 23.19 in other.
        pytest.param("request-0", "m", {"canary": 60.9}, None, id="beyond-the-share"),
        pytest.param("request-0", "m", {"canary": 61.0}, "canary", id="within-the-share"),
        pytest.param("request-0", "m", {"a": 40.0, "b": 30.0}, "b", id="the-second-by-name"),
        pytest.param("request-0", "m", {"b": 30.0, "a": 40.0}, "b", id="whatever-the-order"),
        pytest.param("request-0", "other", {"canary": 30.0}, "canary", id="another-model"),
        pytest.param("request-1", "m", {"canary": 90.0}, None, id="another-request"),
    ],
)
def test_which_label_a_request_is_given(
    key: str, model: str, shares: dict[str, float], label: str | None
) -> None:
    assert label_for(key, model, shares) == label


@given(st.text())
def test_any_id_gets_the_same_answer_again(key: str) -> None:
    shares = {"canary": 30.0, "beta": 20.0}
    assert label_for(key, "m", shares) == label_for(key, "m", dict(reversed(shares.items())))


def test_shares_are_kept() -> None:
    shares = {"canary": 5.0, "beta": 20.0}
    given = Counter(label_for(f"request-{k}", "m", shares) for k in range(20_000))
    assert abs(given["canary"] / 20_000 - 0.05) < 0.006
    assert abs(given["beta"] / 20_000 - 0.20) < 0.01
