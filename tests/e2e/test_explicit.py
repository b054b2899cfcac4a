"""Models loaded, labelled and unloaded by the Python client and the command line, over restarts."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.serving import serving
from darkroom_client import (
    AsyncClient,
    Cancelled,
    Client,
    Health,
    LoadReport,
    LoadStage,
    ModelState,
    ModelUnavailable,
)
from tests.e2e.test_serving import fake_repository

REPOSITORY = Path(__file__).parents[2] / "model_repo"


def darkroom(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("darkroom"))
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=300)


def test_an_embedded_model_is_loaded_with_progress_serves_and_comes_back_after_a_restart(
    tmp_path: Path,
) -> None:
    shutil.copytree(REPOSITORY / "tiny-sdxl", tmp_path / "models" / "tiny-sdxl")
    flags = ("--model-control", "explicit", "--state-file", str(tmp_path / "state.json"))
    with serving(tmp_path / "models", *flags) as server, Client(server.address) as client:
        with pytest.raises(ModelUnavailable):
            client.generate("a red circle", model="tiny-sdxl")
        assert client.get_model("tiny-sdxl").state is ModelState.UNLOADED
        reports: list[LoadReport] = []
        model = client.load_model("tiny-sdxl", on_progress=reports.append)
        assert (model.state, model.default_version) == (ModelState.READY, 2)
        weights = [one.progress for one in reports if one.progress.stage is LoadStage.WEIGHTS]
        # Part by part, to the last byte.
        assert len({one.loaded_bytes for one in weights}) > 3
        assert weights[-1].loaded_bytes == weights[-1].total_bytes == model.versions[0].weight_bytes
        assert client.generate("a red circle", steps=2).images
        assert client.health() is Health.SERVING
    with serving(tmp_path / "models", *flags) as server, Client(server.address) as client:
        server.until_ready("tiny-sdxl")
        assert client.generate("a red circle", steps=2).images


def test_the_command_line_does_all_of_it(tmp_path: Path) -> None:
    fake_repository(tmp_path)
    (tmp_path / "fake" / "2").mkdir()
    with serving(tmp_path, "--model-control", "explicit", "--load-model", "fake") as server:
        server.until("model", model="fake/2", state="ready")
        at = ("--server", server.address)
        assert darkroom("models", "load", "fake", "--version", "1", *at).returncode == 0
        assert darkroom("models", "label", "fake", "stable", "1", *at).returncode == 0
        listed = darkroom("models", *at).stdout
        assert "2, 1*" in listed
        assert darkroom("models", "unload", "fake", "--drain", "1", *at).returncode == 0
        refused = darkroom("models", "label", "fake", "stable", "1", *at)
        assert refused.returncode == 4
        assert "ready" in refused.stderr


def test_a_load_can_be_cancelled_from_elsewhere(tmp_path: Path) -> None:
    fake_repository(tmp_path, load_s=60.0)

    async def cancelled(address: str) -> None:
        async with AsyncClient(address) as client:
            reports = client.load_model_events("fake")
            first = await anext(reports)
            assert first.model.state is ModelState.LOADING
            await client.unload_model("fake")
            with pytest.raises(Cancelled, match="unloaded"):
                async for _ in reports:
                    pass
            assert (await client.get_model("fake")).state is ModelState.UNLOADED

    with serving(tmp_path, "--model-control", "explicit") as server:
        asyncio.run(cancelled(server.address))


def test_a_server_that_follows_its_repository_refuses(tmp_path: Path) -> None:
    with serving(fake_repository(tmp_path)) as server, Client(server.address) as client:
        with pytest.raises(ModelUnavailable, match="explicit") as refused:
            client.load_model("fake")
        assert refused.value.reason == "MODEL_CONTROL"


def test_load_model_without_explicit_is_wrong_usage(tmp_path: Path) -> None:
    done = darkroom("serve", "--model-repository", str(tmp_path), "--load-model", "fake")
    assert done.returncode == 2
    assert "load_models is for model_control explicit" in done.stderr
