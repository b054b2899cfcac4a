"""Adapters that a request names, and those of the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.jobs import FeatureCache, Task
from darkroom_server.requests.adapters import adapter_uses, check_adapters
from darkroom_server.requests.image_requests import AdapterRequest, ImageRequest


def version(name: str, number: int = 1, **changes: object) -> AdapterVersion:
    values = {"path": Path("/x"), "digest": f"{name}{number}", "size_bytes": 1} | changes
    return AdapterVersion(name=name, version=number, **values)


KNOWN = (
    version("ink", 1, labels=("stable",)),
    version("ink", 2),
    version("wash", 1, aliases=("someone/Wash-LoRA",), default_weight=0.8),
    version("wash", 3, aliases=("someone/Wash-LoRA",), default_weight=0.8),
)


def used(*asked: AdapterRequest) -> list[tuple[str, int, float]]:
    request = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a", adapters=asked)
    return [
        (u.adapter.name, u.adapter.version, u.weight) for u in adapter_uses(request, "m", KNOWN)
    ]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        pytest.param(AdapterRequest("ink"), ("ink", 1, 1.0), id="stable-is-the-default"),
        pytest.param(AdapterRequest("ink", "2"), ("ink", 2, 1.0), id="by-number"),
        pytest.param(AdapterRequest("ink/2", "", -1.0), ("ink", 2, -1.0), id="by-slash"),
        pytest.param(AdapterRequest("ink", "stable"), ("ink", 1, 1.0), id="by-label"),
        pytest.param(AdapterRequest("wash"), ("wash", 3, 0.8), id="the-highest"),
        pytest.param(AdapterRequest("someone/wash-lora"), ("wash", 3, 0.8), id="by-alias"),
        pytest.param(AdapterRequest("someone/wash-lora/1"), ("wash", 1, 0.8), id="alias-and-slash"),
        pytest.param(AdapterRequest("wash", "", 0.0), ("wash", 3, 0.0), id="zero-is-a-weight"),
    ],
)
def test_what_is_asked_for_is_found(asked: AdapterRequest, found: tuple[str, int, float]) -> None:
    assert used(asked) == [found]


def test_the_order_is_the_requests() -> None:
    asked = AdapterRequest("wash", "", 0.1), AdapterRequest("ink", "", 0.2)
    assert [name for name, _, _ in used(*asked)] == ["wash", "ink"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param([AdapterRequest("inc")], "did you mean ink", id="nearest"),
        pytest.param([AdapterRequest("ink", "7")], "there are: 1, 2", id="no-such-version"),
        pytest.param([AdapterRequest("ink"), AdapterRequest("ink", "2")], "twice", id="twice"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(asked: list[AdapterRequest], words: str) -> None:
    with pytest.raises(InvalidParameter, match=words) as caught:
        used(*asked)
    assert caught.value.field == "adapters"


def test_a_feature_cache_does_not_go_with_them() -> None:
    request = ImageRequest(
        task=Task.TEXT_TO_IMAGE,
        prompt="a",
        adapters=(AdapterRequest("ink"),),
        feature_cache=FeatureCache(),
    )
    with pytest.raises(InvalidParameter, match="does not go with adapters"):
        adapter_uses(request, "m", KNOWN)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param([AdapterRequest("a")] * 9, id="too-many"),
        pytest.param([AdapterRequest("")], id="no-name"),
        pytest.param([AdapterRequest("a" * 300)], id="long-name"),
        pytest.param([AdapterRequest("a", "", float("nan"))], id="nan"),
        pytest.param([AdapterRequest("a", "", 10.5)], id="absurd"),
        pytest.param([AdapterRequest("a", "", -10.5)], id="absurdly-negative"),
    ],
)
def test_bounds_hold_whatever_the_model(asked: list[AdapterRequest]) -> None:
    with pytest.raises(InvalidParameter):
        check_adapters(asked)
