"""The examples in the docstrings of the Python client run."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import textwrap
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import darkroom_client
from darkroom.v1 import model_service_pb2
from darkroom_client import AsyncClient, Client, Preview
from tests.integration.clients.scripted_server import (
    ScriptedServer,
    accepted,
    completed,
    image,
    says,
)

ADDRESS = "127.0.0.1:8001"


def examples(kind: type) -> list[Any]:
    found = []
    for name, documented in [("class", kind), *inspect.getmembers(kind, inspect.isfunction)]:
        _, _, code = (inspect.getdoc(documented) or "").partition("Example::\n")
        if code:
            found.append(pytest.param(textwrap.dedent(code), id=f"{kind.__name__}-{name}"))
    return found


@pytest.fixture
def names(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What examples may take for granted."""
    for name in ("house.png", "mask.png"):
        Image.new("L", (64, 64)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    model = model_service_pb2.Model(name="models/tiny-sdxl", versions=[{"version": 2}])  # type: ignore[list-item]
    server.models.models = [model]
    server.models.load_reports = [model_service_pb2.LoadModelResponse(model=model)]
    server.images.scripts = [says(accepted(), *image(b"picture"), completed())] * 4
    imported = {name: getattr(darkroom_client, name) for name in darkroom_client.__all__}
    return imported | {
        "asyncio": asyncio,
        "contextlib": contextlib,
        "Preview": Preview,
        "show": print,
    }


@pytest.mark.parametrize("code", examples(Client))
def test_an_example(code: str, names: dict[str, Any], server: ScriptedServer) -> None:
    with Client(server.address) as client:
        exec(code.replace(ADDRESS, server.address), names | {"client": client})


@pytest.mark.parametrize("code", examples(AsyncClient))
async def test_an_asynchronous_example(
    code: str, names: dict[str, Any], server: ScriptedServer
) -> None:
    body = textwrap.indent(code.replace(ADDRESS, server.address), "    ")
    async with AsyncClient(server.address) as client:
        names["client"] = client
        exec(f"async def example():\n{body}", names)
        await names["example"]()


def test_there_are_examples() -> None:
    assert len(examples(Client)) >= 3
    assert len(examples(AsyncClient)) >= 2
