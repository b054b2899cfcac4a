from __future__ import annotations

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from darkroom_server.domain.model_status import VersionState
from darkroom_server.telemetry.metrics import Metrics
from tests.unit.gateway.test_server import Engine, app_of


async def counted(method: str, path: str) -> list[dict[str, str]]:
    """The labels of the calls that are counted after this one."""
    metrics = Metrics()
    engine = Engine([VersionState.READY])
    transport = httpx.ASGITransport(app=app_of(engine, metrics), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.request(method, path)
    text, _ = metrics.render("")
    return [
        sample.labels
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name == "darkroom_http_requests_total"
    ]


ROUTES = [
    ("GET", "/darkroom/v1/models", "/darkroom/v1/models", "200"),
    ("POST", "/models/a/b", "/models/{model:path}", "400"),
    ("POST", "/darkroom/v1/generate", "/darkroom/v1/generate", "400"),
    ("POST", "/api/v1/images/generation", "/api/v1/images/generation", "400"),
    ("POST", "/nscale/v1/images/generations", "/nscale/v1/images/generations", "400"),
    ("GET", "/playground/icon.svg", "/playground/{name}", "200"),
    ("GET", "/v2/health/live", "/v2/health/live", "200"),
    ("GET", "/made/up", "none", "404"),
    ("BREW", "/made/up", "none", "404"),
]


@pytest.mark.parametrize(("method", "path", "route", "status"), ROUTES)
async def test_a_call_is_counted_by_its_route_and_status(
    method: str, path: str, route: str, status: str
) -> None:
    [labels] = await counted(method, path)
    assert (labels["route"], labels["status"]) == (route, status)
    assert labels["method"] == ("other" if method == "BREW" else method)
