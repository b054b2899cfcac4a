"""Which pipeline folders count as whole and safe; looked at through a scan."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.repository.builders import (
    FLUX_INDEX,
    HIDREAM_INDEX,
    SDXL_INDEX,
    Repository,
    dump,
    safetensors,
)

#: Of a class without a family.
WHOLE_INDEX = SDXL_INDEX | {"_class_name": "StableDiffusionXLImg2ImgPipeline"}


def test_a_whole_pipeline_has_no_problem(repository: Repository) -> None:
    repository.pipeline("sdxl")
    repository.pipeline("flux", index=FLUX_INDEX)
    assert repository.complaints() == []
    assert [model.info.name for model in repository.scan().models] == ["flux", "sdxl"]


@pytest.mark.parametrize("index", [SDXL_INDEX, FLUX_INDEX, HIDREAM_INDEX])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="null"),
        pytest.param([None, None], id="a-part-left-out"),
        pytest.param([None, "CLIPVisionModel"], id="a-part-left-out-whose-class-is-told"),
        pytest.param([], id="an-empty-list"),
        pytest.param([2, 5, 8], id="numbers"),
        pytest.param([0.5, 1.5], id="two-numbers"),
        pytest.param(["layer-1", "layer-2", "layer-3"], id="three-texts"),
        pytest.param([["a", "b"], ["c", "d"]], id="a-list-of-lists"),
        pytest.param(False, id="a-flag"),
    ],
)
def test_settings_of_a_pipeline_are_no_parts(
    repository: Repository, index: dict[str, Any], value: object
) -> None:
    repository.pipeline("m", index=index)
    repository.write("m/1/model_index.json", dump({**index, "extra": value}))
    assert repository.complaints() == []
    assert len(repository.scan().models) == 1


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        pytest.param("model_index.json", "m/1: error: holds no model_index.json", id="index"),
        pytest.param("unet/", "m/1/unet: error: is missing", id="folder"),
        pytest.param("vae/config.json", "m/1/vae/config.json: error: is missing", id="config"),
        pytest.param("vae/diff", "m/1/vae: error: has no weights", id="weights"),
        pytest.param(
            "scheduler/", "m/1/scheduler: error: is missing, but model_index", id="scheduler"
        ),
        pytest.param("tokenizer/tokenizer.json", "has no vocabulary", id="vocabulary"),
        pytest.param(
            "tokenizer/tokenizer_config.json", "tokenizer_config.json: error: is", id="tokenizer"
        ),
    ],
)
def test_a_half_copied_version_does_not_count(
    repository: Repository, missing: str, expected: str
) -> None:
    repository.pipeline("m", without=missing)
    assert any(expected in error for error in repository.errors()), repository.errors()
    assert repository.scan().models == ()


@pytest.mark.parametrize(
    "name",
    ["vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json"],
)
def test_a_vocabulary_may_have_any_librarys_form(repository: Repository, name: str) -> None:
    repository.pipeline("m", without="tokenizer/tokenizer.json")
    repository.write(f"m/1/tokenizer/{name}", b"words")
    assert repository.complaints() == []


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"image_encoder": None}, id="null"),
        pytest.param({"image_encoder": [None, None]}, id="null-part"),
        pytest.param({"text_encoder_select_layers": [2, 5, 8]}, id="numbers"),
        pytest.param({"mean": [0.1, 0.2], "is_distilled": True, "patch_size": 2}, id="settings"),
    ],
)
def test_an_index_may_have_entries_that_are_no_parts(
    repository: Repository, entry: dict[str, Any]
) -> None:
    repository.pipeline("m", index=WHOLE_INDEX | entry)
    assert repository.errors() == []


def test_a_guider_is_kept_in_its_config(repository: Repository) -> None:
    index = WHOLE_INDEX | {"guider": ["diffusers", "AdaptiveProjectedMixGuidance"]}
    folder = repository.pipeline("m", index=index)
    for file in (folder / "guider").iterdir():
        file.unlink()
    (folder / "guider" / "README.md").write_text("a guider")
    (error,) = repository.errors()
    assert "guider_config.json: error: is missing" in error
    (folder / "guider" / "guider_config.json").write_text("{}")
    assert repository.errors() == []


@pytest.mark.parametrize(
    ("class_name", "message"),
    [
        ("StableDiffusionXLImg2ImgPipeline", None),
        ("WanPipeline", "makes frames"),
        ("StableDiffusionXLControlNetUnionPipeline", "needs control_mode, which no request has"),
    ],
)
def test_a_class_is_refused_by_what_it_takes(
    repository: Repository, class_name: str, message: str | None
) -> None:
    repository.pipeline("m", index=SDXL_INDEX | {"_class_name": class_name})
    errors = repository.errors()
    assert [message for error in errors if message and message in error] == [message] * len(errors)
    assert bool(errors) == (message is not None)


def shards(*names: str) -> bytes:
    return dump({"weight_map": {f"w{i}": name for i, name in enumerate(names)}})


def test_all_shards_of_an_index_must_be_there(repository: Repository) -> None:
    repository.pipeline("m", without="unet/diff")
    one, two = (f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2))
    repository.write("m/1/unet/diffusion_pytorch_model.safetensors.index.json", shards(one, two))
    repository.write(f"m/1/unet/{one}", safetensors(w0=1))
    (error,) = repository.errors()
    assert "index.json: error: names the shard" in error
    assert two in error
    repository.write(f"m/1/unet/{two}", safetensors(w1=1))
    assert repository.complaints() == []


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param(
            "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
            shards("../../../other.safetensors"),
            "names the shard '../../../other.safetensors', which is not there",
            id="shard-outside",
        ),
        pytest.param(
            "unet/diffusion_pytorch_model.safetensors.index.json",
            dump({"weight_map": {"w": 5}}),
            "names the shard ''",
            id="shard-that-is-no-name",
        ),
        pytest.param(
            "unet/diffusion_pytorch_model.safetensors.index.json",
            b"{}",
            "has no 'weight_map'",
            id="no-weight-map",
        ),
        pytest.param(
            "unet/extra.safetensors",
            b"12345",
            "unet/extra.safetensors: error: is truncated",
            id="cut",
        ),
        pytest.param("unet/config.json", b"{", "config.json:1:2: error: is not valid", id="json"),
    ],
)
def test_weights_and_configs_are_looked_into(
    repository: Repository, name: str, content: bytes, expected: str
) -> None:
    repository.pipeline("m")
    repository.write(f"m/1/{name}", content)
    assert any(expected in error for error in repository.errors()), repository.errors()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "diffusion_pytorch_model-00001-of-00002.safetensors", id="shards-and-no-index"
        ),
        pytest.param("diffusion_pytorch_model.fp16.safetensors", id="only-a-variant"),
        pytest.param("model.safetensors", id="the-other-library's-name"),
    ],
)
def test_weights_must_have_the_name_that_is_loaded(repository: Repository, name: str) -> None:
    repository.pipeline("m", without="unet/diff")
    repository.write(f"m/1/unet/{name}", safetensors(a=1))
    (error,) = repository.errors()
    assert "m/1/unet: error: has no weights diffusion_pytorch_model.safetensors" in error
    assert "save them again under that name" in error


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.bin",
        "model.ckpt",
        "unet/deep/er/x.pt",
        "vae/x.PTH",
        "text_encoder/x.pkl",
    ],
)
def test_pickled_weights_are_refused_and_the_way_out_is_told(
    repository: Repository, name: str
) -> None:
    repository.pipeline("m")
    repository.write(f"m/1/{name}", b"\x80\x02.")
    (error,) = repository.errors()
    assert error.startswith(f"m/1/{name}: error: ")
    assert "convert the weights to safetensors" in error
    assert repository.scan().models == ()


def test_the_arrays_of_an_openvino_export_are_not_taken_for_a_pickle(
    repository: Repository,
) -> None:
    repository.pipeline("m")
    repository.write("m/1/openvino/unet/openvino_model.xml", b"<net/>")
    repository.write("m/1/openvino/unet/openvino_model.bin", b"1234")
    assert repository.complaints() == []


@pytest.mark.parametrize("name", ["pipeline.py", "unet/my_unet.py", "unet/fast.so"])
def test_code_in_a_version_is_refused(repository: Repository, name: str) -> None:
    repository.pipeline("m")
    repository.write(f"m/1/{name}", b"import os")
    (error,) = repository.errors()
    assert f"m/1/{name}: error: is code" in error


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"_class_name": ["pipeline", "MyPipeline"]}, "never run", id="class-as-list"),
        pytest.param({"_class_name": "my.module.Pipeline"}, "never run", id="class-as-path"),
        pytest.param({"_class_name": None}, "has no '_class_name'", id="class-missing"),
        pytest.param({"_class_name": "OtherModel"}, "cannot be served", id="class-unknown"),
        pytest.param({"unet": ["my_unet", "MyUNet"]}, "'my_unet'", id="part-from-own-module"),
        pytest.param({"unet": ["os", "system"]}, "other code is never run", id="part-from-os"),
        pytest.param({"unet": ["diffusers", "a.b"]}, "other code is never run", id="part-path"),
        pytest.param(
            {"safety_checker": ["stable_diffusion", "Other"]},
            "other code is never run",
            id="another-part-of-a-pipeline",
        ),
        pytest.param({"unet": "diffusers"}, "needs a 'unet'", id="part-is-text"),
        pytest.param({"../vae": ["diffusers", "X"]}, "'../vae' is not [", id="part-outside"),
        pytest.param({"unet": [1, 2, 3]}, "needs a 'unet'", id="part-is-a-list"),
        pytest.param({"unet": ["diffusers", None]}, "is not [library", id="part-without-class"),
        pytest.param({"auto_map": {"a": "b.C"}}, "'auto_map'", id="auto-map"),
    ],
)
def test_an_index_that_asks_for_other_code_is_refused(
    repository: Repository, change: dict[str, Any], expected: str
) -> None:
    repository.pipeline("m")
    repository.write("m/1/model_index.json", dump({**SDXL_INDEX, **change}))
    assert any(expected in error for error in repository.errors()), repository.errors()
    assert repository.scan().models == ()


def test_the_safety_checker_that_diffusers_has_is_a_part_and_previews_are_off(
    repository: Repository,
) -> None:
    index = SDXL_INDEX | {"_class_name": "StableDiffusionPipeline"}
    repository.pipeline("without", index=index)
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    folder = repository.pipeline("m", index=index | checker)
    (error,) = repository.errors()
    assert "m/1/safety_checker: error: has no weights model.safetensors" in error
    weights = folder / "safety_checker" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("model.safetensors"))
    assert repository.errors() == []
    assert repository.model("m").info.parameters["preview"] is False
    assert repository.model("without").info.parameters["preview"] is True


def test_a_part_that_asks_for_its_own_code_is_refused(repository: Repository) -> None:
    repository.pipeline("m", configs={"text_encoder": {"auto_map": {"AutoModel": "x.Y"}}})
    (error,) = repository.errors()
    assert "m/1/text_encoder/config.json: error: 'auto_map'" in error
