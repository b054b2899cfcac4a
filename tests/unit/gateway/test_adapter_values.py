"""Adapters in bodies, as callers of other services write them."""

from __future__ import annotations

import pytest

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.wire.adapter_values import adapters_of, with_one_list


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param("ink", [("ink", None)], id="name"),
        pytest.param("ink=0.5", [("ink", 0.5)], id="name-and-weight"),
        pytest.param({"ink": 0.5, "wash": "-1"}, [("ink", 0.5), ("wash", -1.0)], id="hyperbolic"),
        pytest.param([{"path": "a/b", "scale": 0.7}], [("a/b", 0.7)], id="fal"),
        pytest.param({"path": "a/b"}, [("a/b", None)], id="one"),
        pytest.param(["ink", {"name": "a", "weight": 2}], [("ink", None), ("a", 2.0)], id="list"),
    ],
)
def test_bodies_say_it_in_many_ways(value: object, found: list[tuple[str, float | None]]) -> None:
    read = adapters_of(value, "loras") or ()
    assert [(one.name, one.weight) for one in read] == found


@pytest.mark.parametrize(
    "value", [7, [7], [{"scale": 1}], {"ink": "much"}, {"ink": True}, "ink=nan"]
)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(InvalidParameter):
        adapters_of(value, "loras")


def test_none_are_none() -> None:
    assert adapters_of([], "loras") is None
    assert adapters_of({}, "loras") is None


def test_replicates_inputs_have_their_scales() -> None:
    given = {"prompt": "a", "lora_weights": "ink", "lora_scale": 0.5, "extra_lora": "wash"}
    made = with_one_list(given)
    assert made.keys() == {"prompt", "loras"}
    read = adapters_of(made["loras"], "loras") or ()
    assert [(one.name, one.weight) for one in read] == [("ink", 0.5), ("wash", None)]
    assert with_one_list({"prompt": "a"}) == {"prompt": "a"}
