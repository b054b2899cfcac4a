"""`darkroom serve` with a bucket instead of a folder, as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.serving import connected, serving
from tests.integration.repository.s3_server import URL, serving_s3


def test_an_embedded_model_is_served_from_a_bucket_and_updated(tmp_path: Path) -> None:
    embedded = Path(__file__).parents[2] / "model_repo" / "tiny-flux-schnell"
    flags = ("--model-control", "poll", "--repository-poll", "0.5")
    flags += ("--repository-cache", str(tmp_path / "cache"), "--repository-settle", "0")
    with serving_s3() as bucket:
        bucket.upload(embedded, "tiny-flux-schnell/")
        with serving(URL, *flags) as server, connected(server) as client:
            fetched = server.until("fetched", model="tiny-flux-schnell/1")
            assert fetched["percent"] == 100
            before = client.generate("a red circle", seed=1)
            assert before.parameters.model_version == 1
            bucket.upload(embedded / "1", "tiny-flux-schnell/2/")
            server.until("model", model="tiny-flux-schnell/2", state="ready")
            after = client.generate("a red circle", seed=1)
            assert after.parameters.model_version == 2
            assert after.images[0].content == before.images[0].content
            server.process.terminate()
            assert server.process.wait(30) == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("nope://bucket/x", "Protocol not known: nope", id="unknown-protocol"),
        pytest.param("gs://bucket/x", "pip install 'darkroom-server[gcs]'", id="absent-package"),
    ],
)
def test_a_url_that_nothing_here_can_follow_is_told_at_once(url: str, message: str) -> None:
    command = [str(Path(sys.executable).with_name("darkroom")), "serve"]
    done = subprocess.run(
        [*command, "--model-repository", url],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
