"""A real server whose model has its prompts rewritten by a command, over gRPC and HTTP."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx

from bench.serving import connected, serving

REWRITER = """\
import os, sys
print(sys.stdin.read() + ", in oil, by " + os.environ["DARKROOM_MODEL"])
"""


def test_callers_are_told_the_prompt_that_was_drawn(tmp_path: Path) -> None:
    program = tmp_path / "rewrite.py"
    program.write_text(REWRITER)
    model = tmp_path / "models" / "poet"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(
        "backend: BACKEND_FAKE\n"
        f'prompt_upsampling {{ command: ["{sys.executable}", "{program}"] timeout_s: 120 }}\n'
    )
    with serving(tmp_path / "models") as server, connected(server) as client:
        server.until("model", model="poet/1", state="ready")
        made = client.generate("a cat", seed=3)
        assert made.parameters.rewritten_prompt == "a cat, in oil, by poet"
        # The picture is that of the prompt that was told.
        program.write_text("import sys; print(sys.stdin.read())")
        again = client.generate("a cat, in oil, by poet", seed=3)
        assert again.parameters.rewritten_prompt is None
        assert again.images[0].content == made.images[0].content
        # One that ends before it has read its prompt fails no request, whenever it does.
        program.write_text("raise SystemExit(3)")
        for seed in range(5):
            told = client.generate("a cat", seed=seed)
            assert [one.reason for one in told.warnings] == ["PROMPT_NOT_REWRITTEN"]
        program.write_text(REWRITER)
        url = f"http://127.0.0.1:{server.until('listening')['http_port']}"
        body = {"model": "poet", "prompt": "a dog", "n": 1}
        answer = httpx.post(f"{url}/v1/images/generations", json=body, timeout=120)
        [image] = answer.json()["data"]
        assert image["revised_prompt"] == "a dog, in oil, by poet"
