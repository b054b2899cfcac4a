"""The steps of the Dockerfile without a container, and what the image would run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bench.serving import serving
from deploy.docker.run_steps import ROOT, stages

DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()


@pytest.mark.timeout(1200)  # builds three wheels: minutes on a busy machine
def test_the_steps_build_a_server_that_the_image_s_own_check_finds_healthy(tmp_path: Path) -> None:
    script = ROOT / "deploy/docker/run_steps.py"
    command = [sys.executable, str(script), str(tmp_path / "steps"), "REUSE=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    is_left_out = "the second stage is left out" in done.stdout
    assert is_left_out or "RUN setpriv --reuid=10001" in done.stdout
    last = stages(DOCKERFILE)[-1]
    rest = {keyword: value for keyword, value in last if keyword != "ENV"}
    prefix = tmp_path / "steps" / "prefix" / "bin"
    (entry,) = json.loads(rest["ENTRYPOINT"])
    assert json.loads(rest["CMD"]) == ["serve"]
    (tmp_path / "models" / "fake" / "1").mkdir(parents=True)
    (tmp_path / "models" / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    settings = dict(
        pair.split("=", 1)
        for keyword, value in last
        if keyword == "ENV"
        for pair in shlex.split(value.replace("${PREFIX}", str(prefix.parent)))
    )
    # Beyond loopback it would want keys; the models and the free ports are those of this test.
    settings |= {"DARKROOM_HOST": "127.0.0.1", "PYTHONPATH": sysconfig.get_path("purelib")}
    program = ["env", *(f"{name}={value}" for name, value in settings.items() if name != "PATH")]
    with serving(tmp_path / "models", program=(*program, str(prefix / entry))) as server:
        server.until("ready")
        port = server.until("listening")["http_port"]
        check = json.loads(rest["HEALTHCHECK"].partition("CMD ")[2])
        asked = [part.replace(":8000/", f":{port}/") for part in check]
        asked[0] = str(prefix / asked[0])
        assert asked != check
        subprocess.run(asked, check=True, env=os.environ | {"PATH": str(prefix)})
        found = subprocess.run(
            [str(prefix / "python"), "-c", "import darkroom_server as d; print(d.__file__)"],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": settings["PYTHONPATH"]},
        )
        assert found.stdout.startswith(str(tmp_path))
