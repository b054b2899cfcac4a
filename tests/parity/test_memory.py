"""Memory profiles on the embedded models: what they save, and how far pictures move from FP32.

The thresholds are those that docs/memory.md states.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from darkroom_server.backends.base import RequestModel, StepModel
from darkroom_server.backends.diffusers import memory
from darkroom_server.backends.diffusers.families.flux import FluxStepModel
from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.loader import _own_weights, load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.jobs import FeatureCache
from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization, StorageDtype
from darkroom_server.domain.models import DeviceKind, Dtype, Placement, VersionInfo
from darkroom_server.repository.repository import ModelRepository
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.tiny_pipelines import random_sdxl

REPOSITORY = Path(__file__).parents[2] / "model_repo"
FLUX, SDXL = "tiny-flux-schnell", "tiny-sdxl"


@pytest.fixture(scope="module")
def versions() -> dict[str, VersionInfo]:
    return {
        model.info.name: model.versions[0] for model in ModelRepository(REPOSITORY).scan().models
    }


def loaded(version: VersionInfo, *, dtype: Dtype = Dtype.FP32, **profile: Any) -> StepModel:
    info = dataclasses.replace(version.model, dtype=dtype, memory=MemoryProfile(**profile))
    version = dataclasses.replace(version, model=info)
    model = load_model(
        version, Placement(DeviceKind.CPU), thread_count=1, prompts=PromptCache(max_bytes=0)
    )
    assert not isinstance(model, RequestModel)
    return model


def picture_of(model: StepModel, version: VersionInfo, size_px: int = 128) -> np.ndarray:
    defaults = version.model.defaults
    spec = image_spec(
        prompt="a red circle on a blue background",
        width_px=size_px,
        height_px=size_px,
        step_count=4 if version.model.name == FLUX else 8,
        guidance_scale=defaults.guidance_scale,
        scheduler=defaults.scheduler,
    )
    return stepped(model, spec)


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one.astype(float) - other.astype(float)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@pytest.fixture(scope="module")
def full(versions: dict[str, VersionInfo]) -> dict[str, tuple[np.ndarray, int]]:
    """The picture in FP32 and the bytes of all weights, by model."""
    torch.set_num_threads(1)
    made = {}
    for name in (FLUX, SDXL):
        model = loaded(versions[name])
        made[name] = (picture_of(model, versions[name]), model.memory_bytes())
    return made


@pytest.mark.parametrize(
    ("profile", "least_psnr_db", "most_share"),
    [
        pytest.param({"quantization": Quantization.INT8_WEIGHTS}, 40, 0.6, id="int8-weights"),
        pytest.param({"quantization": Quantization.INT8}, 35, 0.6, id="int8"),
        pytest.param({"quantization": Quantization.FP8_WEIGHTS}, 35, 0.6, id="fp8-weights"),
        pytest.param(
            {
                "quantization": Quantization.INT8_WEIGHTS,
                "quantized_parts": ("transformer", "text_encoder_2"),
            },
            40,
            0.6,
            id="int8-weights-with-the-text-encoder",
        ),
        pytest.param({"storage": StorageDtype.FP8_E4M3}, 35, 0.8, id="stored-e4m3"),
        pytest.param({"storage": StorageDtype.FP8_E5M2}, 30, 0.8, id="stored-e5m2"),
        pytest.param({"dtype": Dtype.BF16}, 35, 0.51, id="bf16"),
        pytest.param(
            {"dtype": Dtype.BF16, "quantization": Quantization.INT8_WEIGHTS},
            35,
            0.4,
            id="int8-weights-bf16",
        ),
    ],
)
def test_flux_saves_memory_and_stays_within_the_stated_psnr(
    versions: dict[str, VersionInfo],
    full: dict[str, tuple[np.ndarray, int]],
    profile: dict[str, Any],
    least_psnr_db: float,
    most_share: float,
) -> None:
    check(versions[FLUX], full[FLUX], profile, least_psnr_db, most_share)


@pytest.mark.parametrize(
    ("profile", "least_psnr_db", "most_share"),
    [
        pytest.param({"quantization": Quantization.INT8_WEIGHTS}, 35, 0.95, id="int8-weights"),
        pytest.param({"storage": StorageDtype.FP8_E4M3}, 25, 0.7, id="stored-e4m3"),
        pytest.param({"channels_last": True}, 50, 1.0, id="channels-last"),
    ],
)
def test_sdxl_saves_memory_and_stays_within_the_stated_psnr(
    versions: dict[str, VersionInfo],
    full: dict[str, tuple[np.ndarray, int]],
    profile: dict[str, Any],
    least_psnr_db: float,
    most_share: float,
) -> None:
    check(versions[SDXL], full[SDXL], profile, least_psnr_db, most_share)


def check(
    version: VersionInfo,
    full: tuple[np.ndarray, int],
    profile: dict[str, Any],
    least_psnr_db: float,
    most_share: float,
) -> None:
    wanted, full_bytes = full
    model = loaded(version, **profile)
    assert model.dtype() is profile.get("dtype", Dtype.FP32)
    measured_db = psnr_db(picture_of(model, version), wanted)
    share = model.memory_bytes() / full_bytes
    print(f"{version.model.name} {profile}: {measured_db:.1f} dB, {share:.3f} of the bytes")
    assert measured_db >= least_psnr_db
    assert share <= most_share


def test_only_images_above_the_size_are_decoded_in_tiles_as_the_stock_vae_makes_them(
    tmp_path: Path,
) -> None:
    random_sdxl(tmp_path / "words").save_pretrained(tmp_path / "models" / "m" / "1")
    ((version,),) = (model.versions for model in ModelRepository(tmp_path / "models").scan().models)
    whole = picture_of(loaded(version), version)
    untouched = picture_of(loaded(version, vae_tiling_px=128), version)
    np.testing.assert_array_equal(untouched, whole)
    tiled = picture_of(loaded(version, vae_tiling_px=64), version)
    pipeline = StableDiffusionXLPipeline.from_pretrained(version.path)
    # Weights that are mapped from a file lie on other boundaries, by which kernels round.
    _own_weights(pipeline)
    pipeline.vae.enable_tiling()
    pipeline.vae.tile_sample_min_size = 64
    pipeline.vae.tile_latent_min_size = 64 // 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    stock = picture_of(
        SdxlStepModel(pipeline, allowed_schedulers=(), prompts=PromptCache(max_bytes=0)), version
    )
    np.testing.assert_array_equal(tiled, stock)
    assert psnr_db(tiled, whole) < math.inf


def test_a_vae_that_does_not_run_in_tiles_is_refused(versions: dict[str, VersionInfo]) -> None:
    with pytest.raises(ModelUnavailable, match="AutoencoderTiny, does not run in tiles"):
        loaded(versions[FLUX], vae_tiling_px=64)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        pytest.param({"offload": Offload.MODEL}, "offload needs a GPU", id="offload"),
        pytest.param({"offload": Offload.GROUP}, "offload needs a GPU", id="group-offload"),
        pytest.param({"quantization": Quantization.BNB_NF4}, "bnb-nf4 needs a GPU", id="nf4"),
        pytest.param({"quantization": Quantization.BNB_INT8}, "bnb-int8 needs a GPU", id="bnb-8"),
        pytest.param({"quantization": Quantization.FP8}, "fp8 needs a GPU that", id="fp8"),
        pytest.param(
            {"quantization": Quantization.INT8, "quantized_parts": ("unet",)},
            "no part unet to quantize; it has scheduler, ",
            id="unknown-part",
        ),
    ],
)
def test_what_cannot_be_done_here_is_refused_with_the_reason(
    versions: dict[str, VersionInfo], profile: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        loaded(versions[FLUX], **profile)


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param({"storage": StorageDtype.FP8_E4M3}, id="stored"),
        pytest.param({"channels_last": True}, id="channels-last"),
        pytest.param({"quantization": Quantization.INT8_WEIGHTS}, id="quantized"),
    ],
)
def test_a_pipeline_without_a_known_denoiser_is_refused_only_what_needs_it(
    profile: dict[str, Any],
) -> None:
    parts, cpu = ("prior", "vae", "text_encoder"), torch.device("cpu")
    with pytest.raises(ModelUnavailable, match="neither unet nor transformer"):
        memory.check("m", MemoryProfile(**profile), cpu, parts)
    memory.check("m", MemoryProfile(), cpu, parts)
    named = MemoryProfile(quantization=Quantization.INT8, quantized_parts=("text_encoder",))
    memory.check("m", named, cpu, parts)


@pytest.mark.parametrize(
    ("threshold", "least_psnr_db"), [pytest.param(0.1, 35), pytest.param(0.2, 30)]
)
def test_the_feature_cache_skips_steps_and_stays_within_the_stated_psnr(
    versions: dict[str, VersionInfo], threshold: float, least_psnr_db: float
) -> None:
    model = loaded(versions[FLUX])
    assert isinstance(model, FluxStepModel)
    spec = image_spec(
        prompt="a red circle on a blue background",
        width_px=128,
        height_px=128,
        step_count=20,
        guidance_scale=0.0,
        scheduler="FlowMatchEulerDiscreteScheduler",
    )
    wanted, computed = stepped(model, spec), list[int]()
    last = model._transformer.single_transformer_blocks[-1]
    last.register_forward_hook(lambda *_: computed.append(1))
    made = stepped(
        model, dataclasses.replace(spec, feature_cache=FeatureCache(threshold=threshold))
    )
    measured_db = psnr_db(made, wanted)
    print(f"threshold {threshold}: {len(computed)} of 20 steps, {measured_db:.1f} dB")
    assert 1 <= len(computed) <= 16
    assert least_psnr_db <= measured_db < math.inf
