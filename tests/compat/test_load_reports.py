"""A balancer's library as it is reads the load reports, by protos of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.serving import Server, serving
from tests.compat.test_callers import CALLERS, INSTALLED, PROTOS, call

MODULES = INSTALLED / "node" / "node_modules"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "paint" / "1").mkdir(parents=True)
    (tmp_path / "paint" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    with serving(tmp_path) as server:
        server.until("model", state="ready")
        yield server


@pytest.mark.skipif(
    not (MODULES / "@grpc" / "grpc-js").exists(), reason="`make compat` installs this client"
)
def test_grpc_for_node_reads_reports_of_calls_and_beside_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "NODE_MODULES", str(MODULES))
    caller = CALLERS / "load_reports.mjs"
    found = json.loads(call(["node", caller, server.address, PROTOS]).splitlines()[-1])
    assert found["call"]["request_cost"]["device_seconds"] > 0
    assert found["call"]["rps_fractional"] > 0
    for report in (found["call"], *found["beside"]):
        assert set(report["named_metrics"]) == {"waiting_device_seconds", "requests"}
        assert report["application_utilization"] >= 0
    assert len(found["beside"]) == 2
