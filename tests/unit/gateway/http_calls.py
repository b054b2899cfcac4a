"""HTTP calls without a network, to an engine that is made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI

from darkroom_server.telemetry.metrics import Metrics
from tests.unit.gateway.test_server import app_of


@asynccontextmanager
async def calling(
    engine: Any, metrics: Metrics | None = None, origins: tuple[str, ...] = ()
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the routes; a bug comes back as its answer."""
    async with client_of(app_of(engine, metrics, origins)) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of an app; a bug comes back as its answer."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def posted(engine: Any, path: str, **given: Any) -> httpx.Response:
    """The answer to one call; `given` as httpx takes it."""
    async with calling(engine) as client:
        return await client.post(path, **given)
