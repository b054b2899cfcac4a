"""Models that cannot take adapters say why, and name the field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom_server.domain.errors import UnsupportedParameter
from darkroom_server.domain.jobs import Task, UnsupportedParameterPolicy
from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization, StorageDtype
from darkroom_server.domain.models import Denoiser, DenoiserKind, ModelInfo
from darkroom_server.model_config.model_info import combine
from darkroom_server.model_config.settings import ModelSettings
from darkroom_server.pipelines.traits import derive_traits
from darkroom_server.requests.image_requests import AdapterRequest, ImageRequest
from darkroom_server.requests.resolve import resolve
from tests.unit.pipelines.test_traits import sdxl, whole

PROFILES = {
    "offload": MemoryProfile(offload=Offload.MODEL),
    "offload-by-group": MemoryProfile(offload=Offload.GROUP),
    **{f"quantized-{q.value}": MemoryProfile(quantization=q) for q in Quantization},
    **{f"stored-{s.value}": MemoryProfile(storage=s) for s in StorageDtype},
}
KINDS = [kind for kind in DenoiserKind if kind is not DenoiserKind.TORCH]
WORDS = {"offload": "offload", "quantized": "quantization", "stored": "storage_dtype"}


def models() -> list[object]:
    profiles = [
        pytest.param(
            combine("m", ModelSettings(memory=profile), sdxl()),
            WORDS[name.partition("-")[0]],
            id=name,
        )
        for name, profile in PROFILES.items()
    ]
    kinds = [
        pytest.param(
            combine("m", ModelSettings(denoiser=Denoiser(kind=kind)), sdxl()),
            "denoiser",
            id=kind.value,
        )
        for kind in KINDS
    ]
    served_whole = combine("m", ModelSettings(), derive_traits(whole()))
    return [*profiles, *kinds, pytest.param(served_whole, "run whole", id="whole")]


ASKED = ImageRequest(task=Task.TEXT_TO_IMAGE, prompt="a", adapters=(AdapterRequest("ink"),))


@pytest.mark.parametrize(("model", "reason"), models())
def test_adapters_are_refused_with_the_reason(model: ModelInfo, reason: str) -> None:
    with pytest.raises(UnsupportedParameter, match=f"does not take adapters: .*{reason}") as caught:
        resolve(ASKED, model, choose_seed=lambda _: 0)
    assert caught.value.field == "adapters"


@pytest.mark.parametrize(("model", "reason"), models())
def test_or_left_out_with_the_reason_where_the_caller_says_so(
    model: ModelInfo, reason: str
) -> None:
    policy = UnsupportedParameterPolicy.IGNORE
    made = resolve(
        replace(ASKED, unsupported_parameter_policy=policy), model, choose_seed=lambda _: 0
    )
    assert made.spec.adapters == ()
    [notice] = [one for one in made.notices if one.field == "adapters"]
    assert reason in notice.description


@pytest.mark.parametrize(
    "memory",
    [MemoryProfile(vae_tiling_px=512), MemoryProfile(channels_last=True), MemoryProfile()],
    ids=["tiled", "channels-last", "plain"],
)
def test_other_savings_keep_them(memory: MemoryProfile) -> None:
    assert "adapters" in combine("m", ModelSettings(memory=memory), sdxl()).parameters
