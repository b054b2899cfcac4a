"""Both pages' snippets, run as they are written but for host and key, on the embedded models."""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from bench.serving import serving
from tests.e2e.gateway.conftest import DEV, FILL, SCHNELL, SDXL

ROOT = Path(__file__).parents[3]
SNIPPETS = ROOT / "examples" / "http"
HOST, KEY = "http://127.0.0.1:8000", "YOUR_KEY"
ALIASES = {
    SDXL: "tiny-sdxl",
    SCHNELL: "tiny-flux-schnell",
    FILL: "tiny-flux-fill",
    DEV: "tiny-sdxl",
}
#: For images of 1024 px on a busy machine.
LIMIT_S = 600
PAGE_1 = {
    "text-to-image.sh": SDXL,
    "text_to_image.py": SDXL,
    "text-to-image.mjs": SDXL,
    "image-to-image.sh": FILL,
    "image_to_image.py": FILL,
    "image-to-image.mjs": FILL,
}
PAGE_2 = ("hugging_face_requests.py", "hugging_face_hub.py", "hugging-face-fetch.mjs")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    flags = [part for alias, name in ALIASES.items() for part in ("--alias", f"{alias}={name}")]
    with serving(ROOT / "model_repo", *flags) as server:
        server.until_ready(*ALIASES.values())
        yield f"http://127.0.0.1:{server.until('listening')['http_port']}"


def run(name: str, url: str, folder: Path) -> str:
    """What the snippet prints; its files are left in the folder."""
    written = (SNIPPETS / name).read_text()
    assert written.count(HOST) == 1
    assert written.count(KEY) == 1
    script = folder / name
    script.write_text(written.replace(HOST, url).replace(KEY, "ak_1"))
    interpreter = {".sh": "sh", ".py": sys.executable, ".mjs": "node"}[script.suffix]
    if shutil.which(interpreter) is None:
        pytest.skip(f"no {interpreter} here")
    # What the client keeps would else lie in the home of whoever runs the tests.
    environment = os.environ | {"HF_HOME": str(folder)}
    done = subprocess.run(
        [interpreter, script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def printed(name: str, text: str) -> dict[str, Any]:
    """The answer that a snippet printed: Python's writes it as Python does."""
    found: dict[str, Any] = ast.literal_eval(text) if name.endswith(".py") else json.loads(text)
    return found


@pytest.mark.timeout(LIMIT_S + 60)
@pytest.mark.parametrize("name", PAGE_1)
def test_page_1_row_14_the_snippet_works_as_written(url: str, name: str, tmp_path: Path) -> None:
    answer = printed(name, run(name, url, tmp_path))
    assert (answer["model"], answer["object"]) == (PAGE_1[name], "list")
    assert (answer["message"], answer["status"]) == ("Image generated successfully", "success")
    [entry] = answer["data"]
    assert entry["index"] == 0
    assert entry["timings"]["inference"] > 0
    picture = Image.open(io.BytesIO(base64.b64decode(entry["b64_json"])))
    assert picture.size == (1024, 1024)


@pytest.mark.parametrize("name", PAGE_2)
def test_page_2_row_1_the_snippet_works_as_written(url: str, name: str, tmp_path: Path) -> None:
    run(name, url, tmp_path)
    assert Image.open(tmp_path / "astronaut.png").size == (192, 192)


def test_page_1_row_14_the_empty_prompt_that_the_page_ships_is_a_400(url: str) -> None:
    body = {"model": SDXL, "prompt": "", "num_steps": 25, "width": 1024, "height": 1024}
    answer = httpx.post(f"{url}/api/v1/images/generation", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
