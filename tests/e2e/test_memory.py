"""Memory profiles and the feature cache from the configuration and a request to the picture."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.serving import Server, connected, serving
from darkroom_client import Client, InvalidRequest

MODELS = Path(__file__).parents[2] / "model_repo"
SIZE = {"width": 64, "height": 64, "num_steps": 8}
PROMPT = "a red circle on a blue background"
CONFIGS = {
    "small": "quantization { method: METHOD_INT8_WEIGHTS }",
    "away": "offload: OFFLOAD_MODEL instance_group { kind: KIND_CPU }",
    "tiny-sdxl": "",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        kind = name if name == "tiny-sdxl" else "tiny-flux-schnell"
        shutil.copytree(MODELS / kind / "1", repository / name / "1")
        if config:
            (repository / name / "config.pbtxt").write_text(config)
    with serving(repository, "--worker-thread-count", "1") as server:
        server.until_ready("small", "tiny-sdxl")
        server.until("model", model="away/1", state="failed")
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with connected(server) as client:
        yield client


def test_a_quantized_model_with_a_feature_cache_says_so(client: Client) -> None:
    generation = client.generate(
        PROMPT, model="small", steps=8, width=64, height=64, seed=1, feature_cache_threshold=0.5
    )
    fingerprint = generation.parameters.fingerprint.split("/")
    assert fingerprint[1:-1] == ["fp32", "torch", "exact", "int8-weights", "first-block-0.5"]
    assert len(generation.images) == 1


def test_what_cannot_be_done_here_is_told_by_the_version(client: Client) -> None:
    (version,) = client.get_model("away").versions
    assert "offload needs a GPU" in version.state_message


def test_a_model_of_another_family_takes_no_feature_cache(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="does not take feature_cache"):
        client.generate(PROMPT, model="tiny-sdxl", feature_cache_threshold=0.1)


def test_over_http_it_has_a_name_too(server: Server) -> None:
    port = server.until("listening")["http_port"]

    def drawn(**parameters: float) -> bytes:
        body = {"inputs": PROMPT, "model": "small", "parameters": {"seed": 1, **SIZE, **parameters}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:
            return bytes(response.read())

    assert drawn() == drawn()
    assert drawn(feature_cache_threshold=0.9) != drawn()
