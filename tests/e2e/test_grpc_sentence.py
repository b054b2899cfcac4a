"""What the pages' parameters come to over gRPC, with the stock client and its limits."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from bench.serving import Server, connected, serving
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.image_service_pb2_grpc import ImageServiceStub
from darkroom.v1.model_service_pb2 import ListModelsRequest, Model
from darkroom.v1.model_service_pb2_grpc import ModelServiceStub
from tests.e2e.conftest import Service

REPOSITORY = Path(__file__).parents[2] / "model_repo"
EVERYWHERE = {"width_px", "height_px", "step_count", "guidance_scale", "seed"}
#: The first page's table: what each model must take at least, and what it must not.
TABLE = {
    "tiny-sdxl": (EVERYWHERE | {"negative_prompt"}, set(), "TASK_TEXT_TO_IMAGE"),
    "tiny-flux-schnell": (EVERYWHERE, {"negative_prompt"}, "TASK_TEXT_TO_IMAGE"),
    "tiny-flux-fill": (EVERYWHERE, {"negative_prompt"}, "TASK_FILL"),
}


@pytest.fixture(scope="module")
def embedded() -> Iterator[Server]:
    with serving(REPOSITORY, "--worker-thread-count", "1") as server:
        server.until_ready(*TABLE)
        yield server


@pytest.mark.parametrize("name", TABLE)
def test_grpc_sentence_models_are_listed_as_in_the_page_s_table(
    embedded: Server, name: str
) -> None:
    takes, lacks, task = TABLE[name]
    with grpc.insecure_channel(embedded.address) as channel:
        listed = ModelServiceStub(channel).ListModels(ListModelsRequest()).models
    [model] = [one for one in listed if one.name == f"models/{name}"]
    fields = {spec.field for spec in model.parameters}
    assert takes <= fields
    assert not lacks & fields
    assert Model.Task.Value(task) in model.tasks
    [guidance] = [spec for spec in model.parameters if spec.field == "guidance_scale"]
    assert guidance.effective is (name != "tiny-flux-schnell")


def test_grpc_sentence_a_stock_client_gets_an_image_beyond_its_message_limit(
    tmp_path: Path,
) -> None:
    (tmp_path / "large" / "1").mkdir(parents=True)
    limits = "limits { max_size_px: 2048 max_pixel_count: 4194304 }"
    (tmp_path / "large" / "config.pbtxt").write_text(f"backend: BACKEND_FAKE {limits}")
    # A flat picture packs too well: the fake model adds its number to this noise.
    noise = np.random.default_rng(1).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", quality=90)
    request = GenerateRequest(prompt="x", width_px=2048, height_px=2048, step_count=2)
    request.image.content = buffer.getvalue()
    request.strength = 1
    with (
        serving(tmp_path) as server,
        connected(server),
        grpc.insecure_channel(server.address) as channel,
    ):
        events = [one.event for one in ImageServiceStub(channel).Generate(request, timeout=300)]
    content = b"".join(one.chunk.content for one in events if one.HasField("chunk"))
    assert len(content) > 4 << 20
    assert Image.open(io.BytesIO(content)).size == (2048, 2048)


def test_grpc_sentence_concurrent_requests_keep_their_seeds(service: Service) -> None:
    def seeds(seed: int) -> list[int]:
        made = service.client.generate("anything", seed=seed, steps=3, width=64, height=64)
        values = {int(np.asarray(Image.open(io.BytesIO(one.content))).max()) for one in made.images}
        # The fake model paints (seed + steps) mod 256.
        assert values == {(seed + 3) % 256}
        return [one.seed for one in made.images]

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(seeds, range(64))) == [[seed] for seed in range(64)]
