"""Triton's own load generator, where its binary runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.serving import Server, serving
from tests.compat.test_callers import INSTALLED, call

PROGRAM = INSTALLED / "perf_analyzer" / "run"
pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason="`make compat` installs it where it runs"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "paint" / "1").mkdir(parents=True)
    (folder / "paint" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    with serving(folder) as server:
        server.until("model", state="ready")
        yield server


@pytest.mark.parametrize("way", ["grpc", "http", "stream"])
def test_it_measures(server: Server, way: str, tmp_path: Path) -> None:
    """It asks for metadata, config, statistics and inference."""
    tensors = {"PROMPT": ["a red circle"], "SEED": [7], "STEPS": [2]}
    data = {name: {"content": content, "shape": [1]} for name, content in tensors.items()}
    (tmp_path / "data.json").write_text(json.dumps({"data": [data]}))
    port = server.until("listening")["http_port"]
    url = f"127.0.0.1:{port}" if way == "http" else server.address
    command = [PROGRAM, "-m", "paint", "-u", url, "-i", "http" if way == "http" else "grpc"]
    command += ["--streaming"] if way == "stream" else []
    command += ["--input-data", tmp_path / "data.json", "--request-count", "8"]
    said = call([*command, "--concurrency-range", "2"])
    for line in ("Request count: 8", "Successful request count: 8", "Inference count: 8"):
        assert line in said, said
