"""Whatever the files hold, a scan reports it and never raises."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darkroom_server.repository.scan import RepositoryScan
from tests.unit.repository.builders import FLUX_INDEX, SDXL_INDEX, Repository, with_header

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["diffusers", "transformers", "../x", "F32", "FluxPipeline"]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["dtype", "shape", "data_offsets", "weight_map"]), children
        )
    ),
    max_leaves=12,
)

# Pieces of the text format, right and wrong, for texts that get further than random bytes do.
PIECES = r"""
name aliases limits defaults tasks dtype backend version_policy latest all specific versions
num_versions version_labels key value instance_group count kind gpus min_size_px max_size_px
step_count guidance_scale strength schedulers parameters fake step_s hub repo_id fp
TASK_FILL DTYPE_FP16 BACKEND_FAKE KIND_GPU 0 1 -1 1.5 1e999 nan inf 99999999999999999999 "m" 'x'
"\ud800" "\x00" "stable" { } < > [ ] : : : , ; # / @ -
"""
words = st.sampled_from([*PIECES.split(), "\n", "\t", "\x00", "\ufeff"])
config_like = st.lists(words, max_size=25).map(lambda found: " ".join(found).encode())


def scan_with(name: str, content: bytes, *, fake: bool = False) -> RepositoryScan:
    with TemporaryDirectory() as folder:
        repository = Repository(Path(folder))
        repository.fake("bystander")
        if fake:
            repository.fake("m")
        else:
            repository.pipeline("m")
        repository.write(f"m/{name}", content)
        return repository.scan()


def assert_reported(scan: RepositoryScan) -> None:
    """The other model is there, and the one in question is either served or explained."""
    names = {model.info.name for model in scan.models}
    assert "bystander" in names
    assert ("m" in names) != ("m" in scan.broken)
    for problem in scan.problems:
        f"{problem}{problem.excerpt}".encode()
        assert str(problem).isprintable()


@settings(max_examples=150)
@given(st.binary(max_size=200) | st.text().map(str.encode) | config_like)
def test_any_bytes_as_config(content: bytes) -> None:
    assert_reported(scan_with("config.pbtxt", content, fake=True))


@settings(max_examples=60)
@given(
    st.binary(max_size=100)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from([*SDXL_INDEX, *FLUX_INDEX, "_class_name"]), json_values).map(
        lambda change: json.dumps({**SDXL_INDEX, **change}).encode()
    )
)
def test_any_bytes_as_model_index(content: bytes) -> None:
    assert_reported(scan_with("1/model_index.json", content))


@settings(max_examples=60)
@given(
    st.binary(max_size=100)
    | st.binary(max_size=100).map(with_header)
    | st.dictionaries(st.text(), json_values).map(
        lambda header: with_header(json.dumps(header).encode(), bytes(64))
    )
)
def test_any_bytes_as_weights(content: bytes) -> None:
    assert_reported(scan_with("1/unet/diffusion_pytorch_model.safetensors", content))


@settings(max_examples=40)
@given(
    st.sampled_from(
        [
            "unet/config.json",
            "vae/config.json",
            "scheduler/scheduler_config.json",
            "unet/diffusion_pytorch_model.safetensors.index.json",
            "MANIFEST.sha256",
        ]
    ),
    st.binary(max_size=100) | json_values.map(lambda value: json.dumps(value).encode()),
)
def test_any_bytes_as_another_file(name: str, content: bytes) -> None:
    assert_reported(scan_with(f"1/{name}", content))


@pytest.mark.parametrize("name", ["config.pbtxt", "1/model_index.json"])
def test_a_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    repository = Repository(tmp_path)
    repository.fake("bystander")
    repository.pipeline("m", without="model_index.json")
    (tmp_path / "m" / name).mkdir()
    assert_reported(repository.scan())
