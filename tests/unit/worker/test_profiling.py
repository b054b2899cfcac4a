"""Which denoiser is recommended."""

from __future__ import annotations

import pytest

from darkroom_server.domain.models import Denoiser, DenoiserKind, Dtype, ExportWeights
from darkroom_server.worker.profiling import Profile, candidates, gain, recommended

CELLS = ((64, 64, 1), (64, 64, 2))
ONNX = Denoiser(kind=DenoiserKind.ONNXRUNTIME)
BF16 = Denoiser(kind=DenoiserKind.OPENVINO, compute=Dtype.BF16)


def measured(denoiser: Denoiser, *image_s: float) -> Profile:
    return Profile(
        denoiser=denoiser,
        setup_s=0.0,
        step_s=dict.fromkeys(CELLS, 1.0),
        decode_s={(64, 64): 0.1},
        image_s=dict(zip(CELLS, image_s, strict=True)),
    )


STOCK = measured(Denoiser(), 1.0, 2.0)


def test_the_gain_is_the_geometric_mean() -> None:
    assert gain(measured(ONNX, 0.5, 0.25), STOCK) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("profiles", "lossy", "expected"),
    [
        pytest.param([measured(ONNX, 0.9, 1.5)], False, ONNX, id="faster"),
        pytest.param([measured(ONNX, 0.97, 1.94)], False, Denoiser(), id="hardly-faster"),
        pytest.param(
            [measured(ONNX, 0.9, 1.5), measured(BF16, 0.1, 0.1)], False, ONNX, id="exact-only"
        ),
        pytest.param([measured(ONNX, 0.9, 1.5), measured(BF16, 0.1, 0.1)], True, BF16, id="lossy"),
    ],
)
def test_recommended(profiles: list[Profile], lossy: bool, expected: Denoiser) -> None:
    assert recommended(profiles, STOCK, lossy=lossy) == expected


def test_every_kind_is_a_candidate_once() -> None:
    labels = [one.label for one in candidates()]
    assert len(set(labels)) == len(labels)
    assert {one.kind for one in candidates()} == set(DenoiserKind)
    assert {one.weights for one in candidates()} == set(ExportWeights)
