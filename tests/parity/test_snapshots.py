"""An image whose state is written down and read again at every step is the one made at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from darkroom_server.backends.base import StepModel
from darkroom_server.backends.diffusers.families.flux import FluxStepModel
from darkroom_server.backends.diffusers.families.flux2_klein import Flux2KleinStepModel
from darkroom_server.backends.diffusers.families.flux_fill import FluxFillStepModel
from darkroom_server.backends.diffusers.families.hidream import HiDreamStepModel
from darkroom_server.backends.diffusers.families.sd import SdStepModel
from darkroom_server.backends.diffusers.families.sd3 import Sd3StepModel
from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.families.z_image import ZImageStepModel
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import FeatureCache, ImageSpec, Task
from darkroom_server.pipelines.schedulers import SchedulerKind, Schedulers
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import fill_spec, image_spec, source_spec
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.parity.tiny_flux2 import random_klein
from tests.parity.tiny_hidream import random_hidream
from tests.parity.tiny_pipelines import random_sd, random_sdxl
from tests.parity.tiny_sd3 import random_sd3
from tests.parity.tiny_z_image import random_z_image

UNET = Schedulers(SchedulerKind.DIFFUSION, frozenset(), "DDIMScheduler", {})
FLOW_EULER = "FlowMatchEulerDiscreteScheduler"
FLOW_NAMES = (FLOW_EULER, "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")


def flow_unipc() -> Any:
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


#: Of each family: its class, and a small pipeline of it.
FAMILIES: dict[str, tuple[type[DiffusersStepModel], Callable[[Path], Any]]] = {
    "sd": (SdStepModel, random_sd),
    "sdxl": (SdxlStepModel, random_sdxl),
    "sdxl-9": (SdxlStepModel, lambda folder: random_sdxl(folder, unet_channels=9)),
    "sd3": (Sd3StepModel, random_sd3),
    "schnell": (FluxStepModel, lambda folder: random_flux(folder, guided=False)),
    "dev": (FluxStepModel, lambda folder: random_flux(folder, guided=True)),
    "fill": (FluxFillStepModel, random_flux_fill),
    "klein": (Flux2KleinStepModel, random_klein),
    "z-image": (ZImageStepModel, random_z_image),
    "hidream": (
        HiDreamStepModel,
        lambda folder: random_hidream(folder, diffusers.FlowMatchEulerDiscreteScheduler()),
    ),
    "hidream-unipc": (HiDreamStepModel, lambda folder: random_hidream(folder, flow_unipc())),
}

SOURCE: dict[str, Any] = {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=0.8)}
FILL: dict[str, Any] = {"task": Task.FILL, "fill": fill_spec(strength=0.8)}
ANCESTRAL = "EulerAncestralDiscreteScheduler"
UNIPC = "UniPCMultistepScheduler"

CASES: list[tuple[str, dict[str, Any]]] = [
    *(("sd", {"scheduler": name}) for name in UNET.usable()),
    ("sd", FILL | {"scheduler": ANCESTRAL}),
    ("sd", SOURCE | {"scheduler": UNIPC}),
    ("sdxl", {"scheduler": ANCESTRAL}),
    ("sdxl", {"scheduler": UNIPC, "guidance_scale": 1.0}),
    ("sdxl", FILL | {"scheduler": "DPMSolverMultistepScheduler"}),
    ("sdxl", SOURCE | {"scheduler": "HeunDiscreteScheduler"}),
    ("sdxl-9", FILL | {"scheduler": ANCESTRAL}),
    *(("sd3", {"scheduler": name}) for name in FLOW_NAMES),
    ("sd3", SOURCE | {"scheduler": FLOW_EULER}),
    *(("schnell", {"scheduler": name}) for name in (FLOW_EULER, "FlowMatchLCMScheduler")),
    ("dev", SOURCE | {"scheduler": FLOW_EULER}),
    ("dev", {"scheduler": FLOW_EULER, "feature_cache": FeatureCache(threshold=0.3)}),
    ("fill", FILL | {"scheduler": FLOW_EULER}),
    ("klein", {"scheduler": FLOW_EULER}),
    ("klein", {"task": Task.IMAGE_TO_IMAGE, "source": source_spec(strength=1.0)}
     | {"scheduler": FLOW_EULER}),
    ("z-image", {"scheduler": FLOW_EULER}),
    ("z-image", SOURCE | {"scheduler": FLOW_EULER}),
    ("hidream", {"scheduler": FLOW_EULER}),
    ("hidream-unipc", {"scheduler": UNIPC}),
]  # fmt: skip


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], DiffusersStepModel]:
    """A model of a family, made once."""
    torch.set_num_threads(1)
    made: dict[str, DiffusersStepModel] = {}

    def built(name: str) -> DiffusersStepModel:
        if name not in made:
            kind, pipeline = FAMILIES[name]
            made[name] = kind(
                pipeline(tmp_path_factory.mktemp(name)),
                allowed_schedulers=(*UNET.usable(), *FLOW_NAMES),
                prompts=PromptCache(max_bytes=1 << 20),
            )
        return made[name]

    return built


def interrupted(model: StepModel, spec: ImageSpec) -> np.ndarray:
    """The image of a request that another worker goes on with after every evaluation."""
    one = model.begin(spec, model.encode(spec), 0)
    while not one.finished:
        model.scatter(one, model.denoise(model.gather([one])), 0)
        state = model.snapshot(one)
        assert state is not None
        assert type(state) is bytes
        one = model.begin(spec, model.encode(spec), 0)
        model.restore(one, state)
    return model.decode(one)


@pytest.mark.parametrize(
    ("family", "changes"),
    CASES,
    ids=[f"{name}-{n}-{one['scheduler']}" for n, (name, one) in enumerate(CASES)],
)
def test_it_has_the_bytes_of_the_one_made_at_once(
    build: Callable[[str], DiffusersStepModel], family: str, changes: dict[str, Any]
) -> None:
    model = build(family)
    spec = image_spec(**({"step_count": 6} | changes))
    np.testing.assert_array_equal(interrupted(model, spec), stepped(model, spec))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_its_layout_are_kept(
    build: Callable[[str], DiffusersStepModel], dtype: torch.dtype
) -> None:
    model = build("sdxl")
    spec = image_spec(scheduler=UNIPC)
    one = model.begin(spec, model.encode(spec), 0)
    values = torch.randn(1, 4, 8, 8).to(dtype)
    one.latents = values.contiguous(memory_format=torch.channels_last)
    other = model.begin(spec, model.encode(spec), 0)
    model.restore(other, model.snapshot(one) or b"")
    assert other.latents.dtype == dtype
    assert other.latents.stride() == one.latents.stride()
    assert torch.equal(other.latents, one.latents)
    assert other.schedule.finished == one.schedule.finished


def test_a_scheduler_that_keeps_what_cannot_be_written_has_no_snapshot(
    build: Callable[[str], DiffusersStepModel],
) -> None:
    model = build("sdxl")
    spec = image_spec()
    one = model.begin(spec, model.encode(spec), 0)
    one.schedule.scheduler.noise_sampler = lambda: None
    assert model.snapshot(one) is None
