"""Files that are not what they look like: pointers in place of files, and weights of no use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.repository.builders import SDXL_INDEX, Repository, dump, safetensors

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    repository.pipeline("m")
    return repository


@pytest.mark.parametrize(
    "name",
    [
        "1/unet/diffusion_pytorch_model.safetensors",
        "1/text_encoder/model.safetensors",
        "1/text_encoder/config.json",
        "1/tokenizer/tokenizer.json",
        "1/tokenizer/vocab.json",
        "1/scheduler/scheduler_config.json",
        "1/model_index.json",
        "1/unet/extra.gguf",
        "1/unet/diffusion_pytorch_model.bin",
        "1/MANIFEST.sha256",
        "config.pbtxt",
    ],
)
def test_a_pointer_of_git_lfs_is_called_one(repository: Repository, name: str) -> None:
    repository.fake("bystander")
    repository.write(f"m/{name}", POINTER)
    errors = [text for text in repository.errors() if "pickled" not in text]
    assert len(errors) == 1
    assert errors[0].startswith(f"m/{name}: error: is a Git LFS pointer")
    assert "git lfs pull" in errors[0]
    assert [model.info.name for model in repository.scan().models] == ["bystander"]


@pytest.mark.parametrize(
    "name",
    [
        "1/lora.safetensors",
        "1/pytorch_lora_weights.safetensors",
        "1/unet/diffusion_pytorch_model.fp16.safetensors",
        "1/text_encoder/adapter_model.safetensors",
        "1/vae_1_0/diffusion_pytorch_model.safetensors",
        "1/image_encoder/model.safetensors",
        "1/unet/flux-Q4_0.gguf",
        "1/unet/model.onnx",
        "1/unet/model.onnx_data",
        "1/unet/openvino_model.xml",
        "1/text_encoder/flax_model.msgpack",
        "1/text_encoder/tf_model.h5",
        "1/text_encoder/rust_model.ot",
        "1/embeddings/ti.npz",
        "1/whole.dduf",
        "1/WHOLE.SAFETENSORS",
        "lora.safetensors",
        "old.ckpt",
    ],
)
def test_weights_that_nothing_uses_are_told(repository: Repository, name: str) -> None:
    repository.write(f"m/{name}", safetensors(w=1))
    (warning,) = repository.complaints()
    assert warning.startswith(f"m/{name}: warning: is ")
    assert repository.model().serving == (1,)


def test_a_file_of_weights_beside_the_models_is_told(repository: Repository) -> None:
    repository.write("lora.safetensors", safetensors(w=1))
    (warning,) = repository.complaints()
    assert warning.startswith("lora.safetensors: warning: is ignored")


def test_a_lora_is_called_one_by_its_tensors(repository: Repository) -> None:
    repository.write("m/1/style.safetensors", safetensors(**{"unet.to_q.lora_A.weight": 2}))
    (warning,) = repository.complaints()
    assert "is a LoRA or another adapter, and nothing applies it" in warning


def test_an_index_and_a_file_of_its_own_are_read_as_the_libraries_do(
    repository: Repository,
) -> None:
    """diffusers prefers the index, transformers the file."""
    for part, own in (
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ):
        index = {"weight_map": {"w": "shard.safetensors"}}
        repository.write(f"m/1/{part}/{own}.index.json", json.dumps(index))
        repository.write(f"m/1/{part}/shard.safetensors", safetensors(w=1))
    assert [text.partition(":")[0] for text in repository.complaints()] == [
        "m/1/text_encoder/shard.safetensors",
        "m/1/unet/diffusion_pytorch_model.safetensors",
    ]


def test_a_shard_without_what_the_index_names_is_refused(repository: Repository) -> None:
    index = {"weight_map": {"w": "a.safetensors", "x": "a.safetensors"}}
    repository.write("m/1/unet/diffusion_pytorch_model.safetensors.index.json", json.dumps(index))
    repository.write("m/1/unet/a.safetensors", safetensors(w=1))
    (error,) = repository.errors()
    assert error.startswith("m/1/unet/a.safetensors: error: lacks tensors")
    assert error.endswith("names: 'x'")


def test_settings_of_a_pipeline_that_are_lists_or_null_are_read(repository: Repository) -> None:
    settings = {
        "image_encoder": [None, None],
        "feature_extractor": None,
        "steps": [1, 2, 3],
        "scales": [0.5, 1.5],
        "nested": [[1, 2], [3, 4]],
        "nothing": [],
        "one": ["text"],
        "is_distilled": False,
        "ratio": None,
    }
    repository.write("m/1/model_index.json", dump({**SDXL_INDEX, **settings}))
    assert repository.complaints() == []


def test_another_file_of_weights_named_by_a_config_is_refused(repository: Repository) -> None:
    config = {"transformers_weights": "../../../elsewhere.safetensors"}
    repository.write("m/1/text_encoder/config.json", dump(config))
    (error,) = repository.errors()
    assert "'transformers_weights' names another file" in error
