"""Settings of parts that change what a pipeline does: honoured, run whole, or refused."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderTiny,
    IPNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.diffusers.families.sd import SdStepModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.diffusers.pictures import picture
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Task
from darkroom_server.domain.models import DenoiserKind, Placement, VersionInfo
from darkroom_server.domain.problems import Severity
from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.pipelines.honoured import OPTIONS, PartRules
from darkroom_server.repository.repository import ModelRepository
from tests.parity.device import loads_onto_the_processor
from tests.parity.shared import stepped
from tests.parity.test_sdxl_steps import SCHEDULERS, fill_spec, image_spec, source_spec
from tests.parity.tiny_pipelines import random_sd

TABLES: dict[str, PartRules] = {
    kind: rules
    for family in FAMILIES.values()
    for kind, rules in {**family.honours.denoisers, **family.honours.vaes}.items()
    # The name under which PixArt-Sigma's was published, of which diffusers makes another class.
    if kind != "Transformer2DModel"
}
#: What the classes register besides their arguments, or leave to all models.
_REGISTERED = {
    *("block_out_channels", "force_upcast", "quantization_config"),
    # Of Qwen-Image's published settings, which its class does not take any more.
    "pooled_projection_dim",
}

#: Of the families whose denoisers are UNets.
_TASKS = [task for task in Task if task is not Task.EDIT]


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_the_tables_know_every_setting_of_a_part(kind: str) -> None:
    arguments = set(inspect.signature(getattr(diffusers, kind).__init__).parameters) - {"self"}
    known = TABLES[kind].settings()
    assert arguments - known == set()
    assert known - arguments <= _REGISTERED


@pytest.mark.parametrize("class_name", sorted(FAMILIES))
def test_the_tables_know_every_part_and_option_of_a_pipeline(class_name: str) -> None:
    kind = getattr(diffusers, class_name)
    options = {
        name
        for name, one in inspect.signature(kind.__init__).parameters.items()
        if isinstance(one.default, bool)
    }
    assert options <= OPTIONS


TASKS: dict[Task, dict[str, Any]] = {
    Task.TEXT_TO_IMAGE: {},
    Task.IMAGE_TO_IMAGE: {"source": source_spec(strength=0.6)},
    Task.FILL: {"fill": fill_spec(strength=0.6)},
}
STOCK = {
    Task.TEXT_TO_IMAGE: StableDiffusionPipeline,
    Task.IMAGE_TO_IMAGE: StableDiffusionImg2ImgPipeline,
    Task.FILL: StableDiffusionInpaintPipeline,
}


def stock(pipeline: Any, spec: ImageSpec) -> np.ndarray:
    arguments: dict[str, Any] = {}
    if spec.source is not None:
        arguments = {"image": picture(spec.source.image), "strength": spec.source.strength}
    if spec.fill is not None:
        arguments = {
            "image": picture(spec.fill.image),
            "mask_image": picture(spec.fill.mask),
            "strength": spec.fill.strength,
        }
    used = STOCK[spec.task](**pipeline.components, requires_safety_checker=False)
    used.set_progress_bar_config(disable=True)
    return np.asarray(
        used(
            prompt=spec.prompt,
            num_inference_steps=spec.step_count,
            guidance_scale=spec.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(spec.seeds[0]),
            **arguments,
        ).images[0]
    )


def build(pipeline: Any) -> SdStepModel:
    return SdStepModel(
        pipeline, allowed_schedulers=SCHEDULERS, prompts=PromptCache(max_bytes=1 << 20)
    )


def spec_of(task: Task, **changes: Any) -> ImageSpec:
    return image_spec(task=task, scheduler="PNDMScheduler", **(TASKS[task] | changes))


@pytest.mark.parametrize("task", _TASKS)
def test_a_unet_that_embeds_its_guidance_is_given_it(tmp_path: Path, task: Task) -> None:
    pipeline = random_sd(tmp_path)
    torch.manual_seed(0)
    pipeline.unet = UNet2DConditionModel.from_config(pipeline.unet.config, time_cond_proj_dim=16)
    pictures = []
    for guidance_scale in (1.0, 7.5):
        spec = spec_of(task, guidance_scale=guidance_scale)
        pictures.append(stepped(build(pipeline), spec))
        np.testing.assert_array_equal(pictures[-1], stock(pipeline, spec))
    assert (pictures[0] != pictures[1]).any()


def asymmetric_vae() -> AsymmetricAutoencoderKL:
    torch.manual_seed(0)
    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        down_block_out_channels=(8, 8, 16, 16),
        up_block_types=("UpDecoderBlock2D",) * 4,
        up_block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        scaling_factor=0.5,
    )


@pytest.mark.parametrize("task", _TASKS)
def test_an_asymmetric_decoder_is_given_the_image_and_the_mask_of_a_fill(
    tmp_path: Path, task: Task
) -> None:
    pipeline = random_sd(tmp_path)
    pipeline.vae = asymmetric_vae()
    spec = spec_of(task)
    np.testing.assert_array_equal(stepped(build(pipeline), spec), stock(pipeline, spec))


@pytest.mark.parametrize("task", _TASKS)
def test_a_small_autoencoder_makes_the_pictures_of_the_pipeline(tmp_path: Path, task: Task) -> None:
    pipeline = random_sd(tmp_path)
    torch.manual_seed(0)
    pipeline.vae = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    spec = spec_of(task)
    np.testing.assert_array_equal(stepped(build(pipeline), spec), stock(pipeline, spec))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("sd")
    random_sd(folder / "tokenizer").save_pretrained(folder / "saved")
    return folder / "saved"


def changed(saved: Path, root: Path, file: str, **settings: object) -> ModelRepository:
    folder = root / "m" / "1"
    shutil.copytree(saved, folder)
    config = json.loads((folder / file).read_text()) | settings
    (folder / file).write_text(json.dumps(config))
    return ModelRepository(root)


@loads_onto_the_processor
@pytest.mark.parametrize(
    ("file", "settings"),
    [
        pytest.param("unet/config.json", {"of_a_later_diffusers": 3}, id="denoiser"),
        pytest.param("vae/config.json", {"of_a_later_diffusers": "on"}, id="vae"),
        pytest.param("model_index.json", {"of_a_later_diffusers": True}, id="pipeline"),
    ],
)
def test_a_setting_that_nobody_knows_runs_whole_with_the_pictures_of_the_pipeline(
    saved: Path, tmp_path: Path, file: str, settings: dict[str, object]
) -> None:
    repository = changed(saved, tmp_path, file, **settings).scan()
    (warning,) = [one for one in repository.problems if one.severity is Severity.WARNING]
    assert "of_a_later_diffusers" in warning.message
    assert warning.path.endswith(file)
    version = repository.models[0].versions[0]
    assert version.model.runs_whole
    assert version.model.tasks == {Task.TEXT_TO_IMAGE}
    assert not version.model.parameters["preview"]
    model = loaded(version)
    assert isinstance(model, RequestModel)
    spec = spec_of(Task.TEXT_TO_IMAGE)
    ((made,),) = model.run([spec], lambda _, __: None)
    pipeline = StableDiffusionPipeline.from_pretrained(version.path)
    np.testing.assert_array_equal(made, stock(pipeline, spec))


def loaded(version: VersionInfo) -> Any:
    return load_model(version, Placement(), thread_count=1, prompts=PromptCache(max_bytes=0))


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        pytest.param("unet/config.json", {"of_a_later_diffusers": None}, id="null"),
        pytest.param("unet/config.json", {"of_a_later_diffusers": False}, id="false"),
        pytest.param("unet/config.json", {"flip_sin_to_cos": False}, id="of-the-part"),
        pytest.param("unet/config.json", {"addition_embed_type": "text"}, id="of-the-text"),
    ],
)
def test_a_setting_that_changes_nothing_around_its_part_shares_steps(
    saved: Path, tmp_path: Path, file: str, settings: dict[str, object]
) -> None:
    repository = changed(saved, tmp_path, file, **settings).scan()
    assert not repository.problems
    assert not repository.models[0].versions[0].model.runs_whole


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        pytest.param("unet/config.json", {"class_embed_type": "timestep"}, id="class"),
        pytest.param("unet/config.json", {"num_class_embeds": 10}, id="class-count"),
        pytest.param("unet/config.json", {"addition_embed_type": "text_time"}, id="added"),
        pytest.param("unet/config.json", {"encoder_hid_dim_type": "image_proj"}, id="image"),
        pytest.param("unet/config.json", {"in_channels": 8}, id="channels-in"),
        pytest.param("unet/config.json", {"out_channels": 8}, id="channels-out"),
        pytest.param("vae/config.json", {"latent_channels": 16}, id="latents"),
        pytest.param("vae/config.json", {"in_channels": 4}, id="colours"),
        pytest.param(
            "scheduler/scheduler_config.json", {"prediction_type": "sample"}, id="prediction"
        ),
    ],
)
def test_a_setting_that_no_pipeline_could_honour_is_refused_by_name(
    saved: Path, tmp_path: Path, file: str, settings: dict[str, object]
) -> None:
    repository = changed(saved, tmp_path, file, **settings).scan()
    assert not repository.models
    told = "\n".join(f"{one.path}: {one.message}" for one in repository.problems)
    assert all(str(value) in told for value in settings.values())


def test_a_unet_of_other_channels_offers_no_fill(saved: Path, tmp_path: Path) -> None:
    channels = {"in_channels": 16, "out_channels": 16}
    repository = changed(saved, tmp_path, "unet/config.json", **channels)
    vae = tmp_path / "m" / "1" / "vae" / "config.json"
    vae.write_text(json.dumps(json.loads(vae.read_text()) | {"latent_channels": 16}))
    (model,) = repository.scan().models
    assert model.versions[0].model.tasks == {Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE}
    assert "mask" not in model.versions[0].model.parameters


def test_without_a_scheduler_that_noises_images_only_texts_are_taken(
    saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "m" / "1"
    shutil.copytree(saved, folder)
    IPNDMScheduler().save_pretrained(folder / "scheduler")
    index = (folder / "model_index.json").read_text()
    (folder / "model_index.json").write_text(index.replace("PNDMScheduler", "IPNDMScheduler"))
    (model,) = ModelRepository(tmp_path).scan().models
    assert model.versions[0].model.tasks == {Task.TEXT_TO_IMAGE}
    assert "image" not in model.versions[0].model.parameters


def test_a_default_scheduler_that_cannot_begin_with_an_image_is_refused_beside_such_tasks(
    saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "m" / "1")
    config = tmp_path / "m" / "config.pbtxt"
    text = 'schedulers: ["IPNDMScheduler"]\ndefaults { scheduler: "IPNDMScheduler" }\n'
    config.write_text(text)
    told = "\n".join(one.message for one in ModelRepository(tmp_path).scan().problems)
    assert "cannot begin with an image" in told
    config.write_text(text + "tasks: [TASK_TEXT_TO_IMAGE]\n")
    assert not ModelRepository(tmp_path).scan().problems


def test_a_unet_that_embeds_its_guidance_is_not_exported(saved: Path, tmp_path: Path) -> None:
    changed(saved, tmp_path, "unet/config.json", time_cond_proj_dim=16)
    config = tmp_path / "m" / "config.pbtxt"
    config.write_text(f"denoiser: DENOISER_{DenoiserKind.OPENVINO.name}\n")
    told = "\n".join(one.message for one in ModelRepository(tmp_path).scan().problems)
    assert "cannot run with DENOISER_OPENVINO" in told
