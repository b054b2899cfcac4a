"""A model that is still being loaded: requests wait for it, unless they say that they will not."""

from __future__ import annotations

from pathlib import Path

import httpx

from bench.serving import serving


def test_a_request_waits_for_its_model_unless_it_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "late" / "1").mkdir(parents=True)
    (tmp_path / "late" / "config.pbtxt").write_text("backend: BACKEND_FAKE fake { load_s: 4 }")
    with serving(tmp_path) as server:
        url = f"http://127.0.0.1:{server.until('listening')['http_port']}/models/late"
        server.until("model", model="late/1", state="loading")
        refused = httpx.post(url, json={"inputs": "x"}, headers={"x-wait-for-model": "false"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        expected = {"error": "Model late is currently loading", "estimated_time": 5.0}
        assert refused.json() == expected
        held = httpx.post(url, json={"inputs": "x"}, timeout=300)
        assert held.status_code == httpx.codes.OK
        served = httpx.post(url, json={"inputs": "x"}, headers={"x-wait-for-model": "false"})
        assert served.status_code == httpx.codes.OK
