from __future__ import annotations

import pytest

from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization, StorageDtype


@pytest.mark.parametrize(
    ("profile", "names"),
    [
        pytest.param(MemoryProfile(), (), id="nothing"),
        pytest.param(MemoryProfile(offload=Offload.MODEL), (), id="what-changes-no-pixel"),
        pytest.param(
            MemoryProfile(quantization=Quantization.INT8_WEIGHTS, quantized_parts=("unet",)),
            ("int8-weights-unet",),
            id="quantized-parts",
        ),
        pytest.param(
            MemoryProfile(storage=StorageDtype.FP8_E4M3, vae_tiling_px=512, channels_last=True),
            ("stored-fp8-e4m3", "tiles-512", "channels-last"),
            id="all-others",
        ),
    ],
)
def test_what_changes_pixels_has_a_name(profile: MemoryProfile, names: tuple[str, ...]) -> None:
    assert profile.names() == names
