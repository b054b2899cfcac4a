from __future__ import annotations

from darkroom_server.domain.memory import MemoryProfile, Offload
from darkroom_server.model_config.model_info import combine
from darkroom_server.model_config.settings import ModelSettings
from tests.unit.pipelines.test_traits import flux, sdxl


def test_flux_takes_a_feature_cache_unless_its_layers_are_offloaded() -> None:
    traits = flux()
    offloaded = ModelSettings(memory=MemoryProfile(offload=Offload.MODEL))
    assert combine("m", ModelSettings(), traits).parameters["feature_cache"] is True
    assert "feature_cache" not in combine("m", offloaded, traits).parameters
    assert "feature_cache" not in sdxl().parameters
