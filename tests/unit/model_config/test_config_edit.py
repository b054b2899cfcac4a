"""Edits of a config leave everything else as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.domain.models import Denoiser, DenoiserKind, Dtype, ExportWeights
from darkroom_server.model_config.config_edit import NotEdited, with_denoiser, write_denoiser

OPENVINO = Denoiser(kind=DenoiserKind.OPENVINO, weights=ExportWeights.INT8, compute=Dtype.BF16)
WRITTEN = """\
denoiser: DENOISER_OPENVINO
denoiser_options {
  weights: EXPORT_WEIGHTS_INT8
  compute: DTYPE_BF16
}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", WRITTEN, id="nothing"),
        pytest.param(
            "# mine\nname: 'm'  # so\n", "# mine\nname: 'm'  # so\n\n" + WRITTEN, id="added"
        ),
        pytest.param(
            "denoiser: DENOISER_TORCH  # why\nmax_batch_size: 4\n",
            "denoiser: DENOISER_OPENVINO  # why\nmax_batch_size: 4\n" + WRITTEN.split("\n", 1)[1],
            id="replaced",
        ),
        pytest.param(
            'denoiser_options { weights: 2 # "}"\n }\nlicense: "}"\ndenoiser: 3\n',
            'license: "}"\n' + WRITTEN,
            id="options-first",
        ),
    ],
)
def test_the_denoiser_alone_changes(before: str, after: str) -> None:
    edited = with_denoiser(before, OPENVINO, model="m")
    assert edited.strip() == after.strip()
    assert with_denoiser(edited, OPENVINO, model="m") == edited


def test_back_to_torch_the_options_go() -> None:
    edited = with_denoiser(f"max_batch_size: 4\n{WRITTEN}", Denoiser(), model="m")
    assert edited == "max_batch_size: 4\ndenoiser: DENOISER_TORCH\n"


def test_a_config_with_errors_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.pbtxt").write_text("denoiser: WHAT\n")
    with pytest.raises(NotEdited, match="cannot be read"):
        write_denoiser(folder, OPENVINO)
    assert [path.name for path in folder.iterdir()] == ["config.pbtxt"]
