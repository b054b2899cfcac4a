"""What lies in a repository stops no running server, and is told."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from safetensors.torch import load_file, save_file

from bench.serving import Server, connected, serving
from darkroom.v1 import model_service_pb2 as pb
from darkroom.v1 import model_service_pb2_grpc
from tests.unit.deep_folders import nest, remove

BROKEN = "good/config.pbtxt:2:1: error: unknown field 'nmae'"
EMBEDDED = Path(__file__).parents[2] / "model_repo"


def add_fake(root: Path, name: str, config: str = "") -> None:
    (root / name / "1").mkdir(parents=True)
    (root / name / "config.pbtxt").write_text(f"backend: BACKEND_FAKE\n{config}")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "models"
    add_fake(root, "good", 'aliases: "some/alias"\n')
    yield root
    remove(root)


def models_of(server: Server) -> model_service_pb2_grpc.ModelServiceStub:
    return model_service_pb2_grpc.ModelServiceStub(grpc.insecure_channel(server.address))


def test_folders_in_each_other_stop_neither_the_start_nor_the_polling(root: Path) -> None:
    add_fake(root, "deep")
    nest(root / "deep" / "1", 1500)
    flags = ("--model-control", "poll", "--repository-poll", "0.2")
    with serving(root, *flags) as server, connected(server):
        add_fake(root, "deep2")
        nest(root / "deep2" / "1", 1500)
        os.mkfifo(root / "good" / "fifo")
        (root / "loop").symlink_to(".")
        add_fake(root, "later")
        server.until("model", model="later/1", state="ready")
        names = {one.name for one in models_of(server).ListModels(pb.ListModelsRequest()).models}
        assert names == {"models/good", "models/later"}


def test_a_text_encoder_without_a_layer_is_not_served(root: Path) -> None:
    shutil.copytree(EMBEDDED / "tiny-sdxl", root / "tiny-sdxl")
    file = root / "tiny-sdxl" / "2" / "text_encoder" / "model.safetensors"
    layer = "encoder.layers.1."
    kept = {name: tensor for name, tensor in load_file(file).items() if layer not in name}
    save_file(kept, file, metadata={"format": "pt"})
    (root / "tiny-sdxl" / "2" / "MANIFEST.sha256").unlink()
    with serving(root, "--model-control", "poll", "--repository-poll", "0.2") as server:
        server.until("model", model="tiny-sdxl/2", state="failed")
        found = models_of(server).GetModel(pb.GetModelRequest(name="tiny-sdxl")).model
        assert "text_encoder lacks" in found.state_message
        assert layer in found.state_message
        assert "random numbers" in found.state_message


def test_a_load_of_a_broken_config_fails_and_every_name_of_the_model_stays_ready(
    root: Path,
) -> None:
    flags = ("--model-control", "explicit", "--load-model", "good")
    with serving(root, *flags) as server, connected(server):
        models = models_of(server)
        (root / "good" / "config.pbtxt").write_text("backend: BACKEND_FAKE\nnmae: 'x'\n")
        for version in ("", "1"):
            load = pb.LoadModelRequest(name="good", version=version, force_reload=True)
            with pytest.raises(grpc.RpcError) as caught:
                list(models.LoadModel(load))
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert BROKEN in caught.value.details()
        (found,) = models.ListModels(pb.ListModelsRequest()).models
        assert found.state == pb.Model.STATE_READY
        assert BROKEN in found.state_message
        _assert_ready_by_every_name(server)


def _assert_ready_by_every_name(server: Server) -> None:
    http = f"http://127.0.0.1:{server.until('listening')['http_port']}"
    health = health_pb2_grpc.HealthStub(grpc.insecure_channel(server.address))
    for name in ("good", "models/good", "some/alias"):
        for version in ("", "/versions/1"):
            answer = httpx.get(f"{http}/v2/models/{name}{version}/ready")
            assert answer.status_code == 200
            told = health.Check(health_pb2.HealthCheckRequest(service=f"{name}{version}"))
            assert told.status == health_pb2.HealthCheckResponse.SERVING
    for name in ("nobody", "good/versions/2"):
        assert httpx.get(f"{http}/v2/models/{name}/ready").status_code == 404
