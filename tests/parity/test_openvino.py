"""Pipelines that optimum saved for OpenVINO: found, loaded and run whole as optimum runs them."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.serving import connected, serving
from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.diffusers.loader import load_model
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.dynamic_batching import DynamicBatching
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.jobs import ImageSpec, Job, JobImage, Reproducibility, Task
from darkroom_server.domain.memory import MemoryProfile, Quantization
from darkroom_server.domain.models import DeviceKind, Dtype, Placement, VersionInfo
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.worker.messages import CancelJob, JobReport, Report, SubmitJob
from darkroom_server.worker.request_runner import request_loop
from tests.parity.shared import assert_within_tolerance
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.tiny_pipelines import random_sdxl

# Exporting traces five models, half a minute of a core.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a tiny random SDXL that optimum exported."""
    from optimum.intel.openvino import OVStableDiffusionXLPipeline

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("exported")
    random_sdxl(folder / "words").save_pretrained(folder / "torch")
    exported = OVStableDiffusionXLPipeline.from_pretrained(
        folder / "torch", export=True, compile=False, local_files_only=True
    )
    exported.save_pretrained(folder / "repository" / "m" / "1")
    return folder / "repository"


@pytest.fixture(scope="module")
def version(repository: Path) -> VersionInfo:
    scan = ModelRepository(repository).scan()
    assert [str(problem) for problem in scan.problems] == []
    ((version,),) = (model.versions for model in scan.models)
    return version


def loaded(
    version: VersionInfo, device: DeviceKind = DeviceKind.AUTO, **changes: Any
) -> RequestModel:
    info = dataclasses.replace(version.model, **changes)
    model = load_model(
        dataclasses.replace(version, model=info),
        Placement(device),
        thread_count=1,
        prompts=PromptCache(max_bytes=0),
    )
    assert isinstance(model, RequestModel)
    return model


@pytest.fixture(scope="module")
def model(version: VersionInfo) -> RequestModel:
    return loaded(version)


def made_by_optimum(version: VersionInfo, spec: ImageSpec) -> np.ndarray:
    from optimum.intel.openvino import OVDiffusionPipeline

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    pipeline = OVDiffusionPipeline.from_pretrained(version.path, ov_config=config)
    pipeline.set_progress_bar_config(disable=True)
    return np.asarray(
        pipeline(
            spec.prompt,
            width=spec.width_px,
            height=spec.height_px,
            num_inference_steps=spec.step_count,
            guidance_scale=spec.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(spec.seeds[0]),
        ).images[0]
    )


def served(model: RequestModel, specs: list[ImageSpec]) -> list[np.ndarray]:
    reports: list[Report] = []
    loop = request_loop(model, reports.append, max_batch_size=8, batching=DynamicBatching())
    for number, spec in enumerate(specs):
        loop.post(SubmitJob(Job(job_id=str(number), spec=spec)))
    loop.run_to_end()
    images = {
        report.job_id: np.asarray(Image.open(io.BytesIO(report.event.content)))
        for report in reports
        if isinstance(report, JobReport) and isinstance(report.event, JobImage)
    }
    return [images[str(number)] for number in range(len(specs))]


def test_the_repository_knows_it(version: VersionInfo) -> None:
    info = version.model
    assert (info.pipeline_class, info.runtime) == ("OVStableDiffusionXLPipeline", "openvino")
    assert info.tasks == {Task.TEXT_TO_IMAGE}
    assert (info.defaults.step_count, info.defaults.guidance_scale) == (30, 5.0)
    arrays = sum(path.stat().st_size for path in version.path.rglob("openvino_model.bin"))
    assert version.weight_bytes == arrays > 1_000_000


def test_alone_it_equals_the_pipeline_called_directly(
    version: VersionInfo, model: RequestModel
) -> None:
    spec = image_spec(scheduler="EulerDiscreteScheduler")
    wanted = made_by_optimum(version, spec)
    (made,) = served(model, [spec])
    np.testing.assert_array_equal(made, wanted)
    assert (model.dtype(), model.memory_bytes()) == (Dtype.FP32, version.weight_bytes)


def test_together_every_image_is_within_the_tolerance(model: RequestModel) -> None:
    specs = [
        image_spec(
            prompt=prompt,
            seeds=(seed,),
            scheduler="EulerDiscreteScheduler",
            reproducibility=Reproducibility.TOLERANCE,
        )
        for seed, prompt in enumerate(("a red circle", "a house", ""))
    ]
    for one, spec in zip(served(model, specs), specs, strict=True):
        alone = dataclasses.replace(spec, reproducibility=Reproducibility.EXACT)
        assert_within_tolerance(one, served(model, [alone])[0])


def test_a_cancelled_run_stops_at_its_next_step(
    model: RequestModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[Report] = []
    steps: list[int] = []
    loop = request_loop(model, reports.append, max_batch_size=8, batching=DynamicBatching())
    run = model.run

    def cancelling(specs: Sequence[ImageSpec], on_step: Callable[[int, int], None]) -> Any:
        def stepped(done: int, total: int) -> None:
            steps.append(done)
            if done == 3:
                loop.post(CancelJob("a"))
            on_step(done, total)

        return run(specs, stepped)

    monkeypatch.setattr(model, "run", cancelling)
    spec = image_spec(scheduler="EulerDiscreteScheduler", step_count=20)
    loop.post(SubmitJob(Job(job_id="a", spec=spec)))
    loop.run_to_end()
    assert steps == [1, 2, 3]


def test_it_is_served_and_listed(repository: Path, version: VersionInfo) -> None:
    with (
        serving(repository, "--worker-thread-count", "1") as server,
        connected(server) as client,
    ):
        assert [model.name for model in client.list_models()] == ["models/m"]
        generation = client.generate("a red circle", steps=4, width=64, height=64, seed=7)
        parameters = generation.parameters
    made = np.asarray(Image.open(io.BytesIO(generation.images[0].content)))
    spec = image_spec(
        step_count=4,
        guidance_scale=parameters.guidance_scale,
        scheduler=parameters.scheduler,
        seeds=(7,),
    )
    np.testing.assert_array_equal(made, made_by_optimum(version, spec))
    assert parameters.fingerprint.split("/")[1:4] == ["fp32", "openvino", "exact"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            {"memory": MemoryProfile(quantization=Quantization.INT8)}, "are for torch", id="memory"
        ),
        pytest.param(
            {"pipeline_class": "OVNoSuchPipeline"}, "none of optimum's pipelines", id="unknown"
        ),
        pytest.param({"pipeline_class": "OVLTXPipeline"}, "makes frames", id="video"),
    ],
)
def test_what_cannot_be_run_is_refused(
    version: VersionInfo, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelUnavailable, match=reason):
        loaded(version, **changes)


def test_it_has_no_gpu(version: VersionInfo) -> None:
    with pytest.raises(ModelUnavailable, match="runs on the processor"):
        loaded(version, DeviceKind.GPU)


def test_a_file_that_is_rewritten_in_place_changes_no_picture(
    tmp_path: Path, version: VersionInfo, model: RequestModel
) -> None:
    shutil.copytree(version.path, tmp_path / "1")
    copied = loaded(dataclasses.replace(version, path=tmp_path / "1"))
    for arrays in (tmp_path / "1").rglob("openvino_model.bin"):
        size_bytes = arrays.stat().st_size
        with arrays.open("r+b") as file:
            file.write(bytes(size_bytes))
    spec = image_spec(scheduler="EulerDiscreteScheduler")
    np.testing.assert_array_equal(served(copied, [spec])[0], served(model, [spec])[0])


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param("truncate-arrays", "needs", id="arrays-truncated"),
        pytest.param("truncate-graph", "does not end with </net>", id="graph-truncated"),
        pytest.param("lose-arrays", "openvino_model.bin: error: is missing", id="arrays-missing"),
        pytest.param("lose-unet", "unet: error: is missing", id="part-missing"),
        pytest.param("add-pickle", "may hold pickled code", id="a-pickle-beside"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    repository: Path, tmp_path: Path, damage: str, problem: str
) -> None:
    shutil.copytree(repository, tmp_path / "repository")
    unet = tmp_path / "repository" / "m" / "1" / "unet"
    graph, arrays = unet / "openvino_model.xml", unet / "openvino_model.bin"
    match damage:
        case "truncate-arrays":
            arrays.write_bytes(arrays.read_bytes()[:-4])
        case "truncate-graph":
            graph.write_bytes(graph.read_bytes()[:-9])
        case "lose-arrays":
            arrays.unlink()
        case "lose-unet":
            shutil.rmtree(unet)
        case "add-pickle":
            (unet / "pytorch_model.bin").write_bytes(b"")
    scan = ModelRepository(tmp_path / "repository").scan()
    assert scan.models == ()
    assert problem in " ".join(map(str, scan.problems))
