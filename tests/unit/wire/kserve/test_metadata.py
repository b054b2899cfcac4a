from __future__ import annotations

from darkroom_server.domain.model_status import VersionState
from darkroom_server.wire.kserve.metadata import model_metadata
from tests.unit.example_models import SDXL, status


def test_versions_are_in_the_order_of_numbers() -> None:
    many = status(SDXL, *[VersionState.READY] * 11)
    assert list(model_metadata(many, "").versions) == [str(number) for number in range(1, 12)]
    assert list(model_metadata(many, "10").versions) == ["10"]
