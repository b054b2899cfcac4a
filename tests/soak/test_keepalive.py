"""A stream on which nothing happens stays, however often its client pings.

The pings themselves are in `tests/e2e/test_grpc_attacks.py`, without the waiting.
"""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.serving import serving

PING_INTERVAL_S = 10
WATCHED_S = 120


@pytest.mark.slow
def test_a_watch_with_a_ping_every_ten_seconds_stays_for_two_minutes(tmp_path: Path) -> None:
    (tmp_path / "fake" / "1").mkdir(parents=True)
    (tmp_path / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    options = [
        ("grpc.keepalive_time_ms", PING_INTERVAL_S * 1000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with serving(tmp_path) as server:
        server.until("model", state="ready")
        with grpc.insecure_channel(server.address, options=options) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="")
            )
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            ended = threading.Event()
            watch.add_callback(ended.set)
            assert not ended.wait(WATCHED_S), watch
            watch.cancel()
