"""A model is loaded onto a kind of accelerator that one entry makes known, and runs there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from darkroom_server.backends.base import RequestModel, StepModel
from darkroom_server.backends.diffusers.device import device_of, placed, toolkit_versions
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.devices import kinds
from darkroom_server.devices.kind import Ability, AcceleratorKind, Runtime
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization
from darkroom_server.domain.models import DeviceKind, Dtype, Placement, VersionInfo
from darkroom_server.repository.repository import ModelRepository
from tests.parity.device import loads_onto_the_processor
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import image_spec

REPOSITORY = Path(__file__).parents[2] / "model_repo"
pytestmark = loads_onto_the_processor


class Pretended(AcceleratorKind):
    """The processor as torch sees it, an accelerator as everything else does."""

    torch_type = "cpu"
    toolkit = "pretended"
    abilities = frozenset({Ability.CUDA_GRAPHS})

    def __init__(self) -> None:
        self.synchronized_count = 0

    def is_available(self, _runtime: Runtime) -> bool:
        return True

    def device_count(self, _runtime: Runtime) -> int:
        return 2

    def synchronize(self, _runtime: Runtime, _index: int | None) -> None:
        self.synchronized_count += 1

    def peak_memory_bytes(self, _runtime: Runtime, _index: int | None) -> int:
        return 12345

    def device_name(self, _runtime: Runtime, _index: int | None) -> str:
        return "Pretended"


@pytest.fixture
def kind(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    kind = Pretended()
    monkeypatch.setattr(kinds, "KINDS", (kind,))
    return kind


@pytest.fixture(scope="module")
def version() -> VersionInfo:
    [model] = [
        one for one in ModelRepository(REPOSITORY).scan().models if one.info.name == "tiny-sdxl"
    ]
    return model.versions[0]


def loaded(version: VersionInfo, placement: Placement, **changes: object) -> StepModel:
    info = dataclasses.replace(version.model, **changes)  # type: ignore[arg-type]
    model = load_model(
        dataclasses.replace(version, model=info),
        placement,
        thread_count=1,
        prompts=PromptCache(max_bytes=0),
    )
    assert not isinstance(model, RequestModel)
    return model


def test_a_model_runs_on_it(kind: Pretended, version: VersionInfo) -> None:
    model = loaded(version, Placement(DeviceKind.GPU, 0))
    assert model.device_name() == "Pretended"
    assert model.peak_memory_bytes() == 12345
    model.wait()
    assert kind.synchronized_count == 1
    assert model.dtype() is Dtype.BF16, "as on every accelerator"
    spec = image_spec(prompt="a red circle", width_px=64, height_px=64, step_count=2)
    assert stepped(model, spec).shape == (64, 64, 3)


def test_configurations_name_its_devices(kind: Pretended) -> None:
    assert placed("m", Placement(DeviceKind.AUTO, None)).kind is kind
    assert placed("m", Placement(DeviceKind.GPU, 1)).torch == torch.device("cpu:1")
    assert placed("m", Placement(DeviceKind.CPU)).kind is None
    with pytest.raises(ModelUnavailable, match="GPU 2; GPUs here: 2"):
        placed("m", Placement(DeviceKind.GPU, 2))
    assert toolkit_versions() == {"pretended": ""}


@pytest.mark.usefixtures("kind")
def test_it_is_asked_only_for_what_it_can_do(version: VersionInfo) -> None:
    assert device_of(torch.device("cpu")).has(Ability.CUDA_GRAPHS)
    for profile, reason in (
        (MemoryProfile(offload=Offload.MODEL), "offload needs a GPU"),
        (MemoryProfile(quantization=Quantization.BNB_NF4), "needs a GPU"),
        (MemoryProfile(quantization=Quantization.FP8), "multiplies 8-bit"),
    ):
        with pytest.raises(ModelUnavailable, match=reason):
            loaded(version, Placement(DeviceKind.AUTO, None), memory=profile)


def test_without_an_entry_there_is_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KINDS", ())
    assert placed("m", Placement(DeviceKind.AUTO, None)).torch == torch.device("cpu")
    with pytest.raises(ModelUnavailable, match="there is none"):
        placed("m", Placement(DeviceKind.GPU, None))
