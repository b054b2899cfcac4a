"""What the health service says of each state of the models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom_server.domain.model_status import ModelStatus, VersionState
from darkroom_server.rpc.health import serving_by_name
from tests.unit.example_models import SDXL, status

UNLOADED, LOADING, READY, UNAVAILABLE, UNLOADING, FAILED = VersionState
OTHER = replace(SDXL, name="other")


@pytest.mark.parametrize(
    ("models", "server", "sdxl"),
    [
        pytest.param((status(SDXL, READY),), True, True, id="ready"),
        pytest.param((status(SDXL, LOADING),), False, False, id="loading"),
        pytest.param((status(SDXL, UNAVAILABLE),), False, False, id="its-worker-died"),
        pytest.param((status(SDXL, FAILED),), False, False, id="failed"),
        pytest.param((status(SDXL, UNLOADED),), False, False, id="nothing-wants-to-serve"),
        pytest.param((status(SDXL, READY, LOADING),), True, True, id="a-newer-version-loads"),
        pytest.param((status(SDXL, READY, FAILED),), True, True, id="a-newer-version-failed"),
        pytest.param(
            (status(SDXL, READY), status(OTHER, LOADING)), False, True, id="another-loads"
        ),
        pytest.param(
            (status(SDXL, READY), status(OTHER, UNLOADED)), True, True, id="another-is-not-wanted"
        ),
        pytest.param(
            (status(SDXL, READY), status(OTHER, UNLOADING)), True, True, id="another-is-leaving"
        ),
    ],
)
def test_the_server_serves_when_all_that_should_are_ready(
    models: tuple[ModelStatus, ...], server: bool, sdxl: bool
) -> None:
    serving = serving_by_name(models, leaving=False)
    assert serving[""] is server
    assert serving["darkroom.v1.ImageService"] is server
    assert serving["darkroom.v1.ModelService"] is True
    assert serving["models/sdxl"] is sdxl


def test_without_models_there_is_nothing_to_serve() -> None:
    assert serving_by_name((), leaving=False) == {
        "": False,
        "darkroom.v1.ImageService": False,
        "darkroom.v1.ModelService": True,
    }


def test_a_server_that_is_leaving_serves_nothing() -> None:
    serving = serving_by_name((status(SDXL, READY),), leaving=True)
    assert set(serving) == {
        "",
        "darkroom.v1.ImageService",
        "darkroom.v1.ModelService",
        "models/sdxl",
    }
    assert not any(serving.values())
