"""Which HTTP calls are told of at the usual level."""

from __future__ import annotations

import pytest
import structlog.testing

from tests.integration.rpc.fake_engine import FakeEngine
from tests.unit.gateway.http_calls import calling


@pytest.mark.parametrize(
    ("path", "level"),
    [
        pytest.param("/", "info", id="the-page"),
        pytest.param("/playground/playground.js", "debug", id="a-file-of-the-page"),
        pytest.param("/v2/health/live", "debug", id="a-probe"),
        pytest.param("/playground-of-another", "info", id="another-path"),
    ],
)
async def test_files_and_probes_do_not_bury_the_other_lines(path: str, level: str) -> None:
    with structlog.testing.capture_logs() as logged:
        async with calling(FakeEngine()) as client:
            await client.get(path)
    [line] = [one for one in logged if one["event"] == "http call"]
    assert line["log_level"] == level
