"""Every method of Triton's clients, and its load generator where that runs; on a real model."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bench.serving import Server, serving
from tests.compat.test_callers import CALLERS, INSTALLED, call, python_of

PROGRAM = INSTALLED / "perf_analyzer" / "run"
PAGE = Path(__file__).parents[2] / "docs" / "from-triton.md"
EMBEDDED = Path(__file__).parents[2] / "model_repo"
MODEL, SPARE = "tiny-sdxl", "spare"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(EMBEDDED / MODEL, folder / MODEL, ignore=shutil.ignore_patterns("1"))
    (folder / SPARE / "1").mkdir(parents=True)
    (folder / SPARE / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    with serving(folder, "--model-control", "explicit", "--load-model", "*") as server:
        server.until("ready")
        yield server


def http_address(server: Server) -> str:
    return f"127.0.0.1:{server.until('listening')['http_port']}"


def counted(server: Server) -> int:
    """Requests of the model that were a success, as the server tells."""
    answer = httpx.get(f"http://{http_address(server)}/v2/models/{MODEL}/stats", timeout=120)
    (found,) = answer.json()["model_stats"]
    return int(found["inference_stats"]["success"]["count"])


def table() -> dict[str, dict[str, str]]:
    """What the page says, by client and method."""
    text = PAGE.read_text().split("### Every call")[1].split("`perf_analyzer`")[0]
    head, *rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and "---" not in line
    ]
    return {
        client: {row[0]: row[at] for row in rows if row[at]} for at, client in enumerate(head) if at
    }


def test_every_method_comes_to_what_the_page_says(server: Server) -> None:
    command = [python_of("tritonclient"), CALLERS / "triton_every_call.py", server.address]
    said = call([*command, http_address(server), MODEL, SPARE])
    assert json.loads(said.splitlines()[-1]) == table()


def measured(command: list[str | Path], server: Server) -> tuple[str, int]:
    """What perf_analyzer prints, and how many requests the server counted meanwhile.

    On a busy machine it sometimes waits on after its last answer: then it is run once more.
    """
    try:
        return _measured(command, server)
    except subprocess.TimeoutExpired:
        return _measured(command, server)


def _measured(command: list[str | Path], server: Server) -> tuple[str, int]:
    before = counted(server)
    said = call(command, timeout_s=120)
    return said, counted(server) - before


@pytest.mark.skipif(not PROGRAM.exists(), reason="`make compat` installs it where it runs")
@pytest.mark.parametrize("way", ["grpc", "http", "stream"])
def test_perf_analyzer_measures(server: Server, way: str, tmp_path: Path) -> None:
    """It asks for metadata, config, statistics and inference."""
    tensors = {"PROMPT": ["a red circle"], "SEED": [7], "STEPS": [2]}
    data = {name: {"content": content, "shape": [1]} for name, content in tensors.items()}
    (tmp_path / "data.json").write_text(json.dumps({"data": [data]}))
    url = http_address(server) if way == "http" else server.address
    command = [PROGRAM, "-m", MODEL, "-u", url, "-i", "http" if way == "http" else "grpc"]
    command += ["--streaming"] if way == "stream" else []
    command += ["--input-data", tmp_path / "data.json", "--request-count", "8"]
    said, count = measured([*command, "--concurrency-range", "2"], server)
    # The first of its requests may end before it looks at what the server had counted.
    for line in ("    Request count: 8", "Successful request count: ", "Inference count: "):
        assert line in said, said
    assert count == 8
