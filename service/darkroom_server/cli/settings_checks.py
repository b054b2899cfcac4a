"""Checks of what settings name: models, a folder, services. A server misses them only later."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from darkroom_server.access.redis_ledger import read_shared_spent
from darkroom_server.cli.findings import Finding, Health
from darkroom_server.config import ServerConfig
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.lifecycle.resolution import resolve_model
from darkroom_server.repository.repository import ModelRepository

#: Where collectors listen for OTLP over gRPC.
_OTLP_PORT = 4317
_WAIT_S = 3.0


def check_model_names(settings: ServerConfig) -> list[Finding]:
    """The models that settings name are in the repository, unless that is fetched first."""
    location = settings.location
    named = [
        name for name in (settings.default_model, *settings.load_models) if name not in ("", "*")
    ]
    if not named or not isinstance(location, Path) or not location.is_dir():
        return []
    scan = ModelRepository(location, settings.aliases).scan()
    findings = []
    for name in named:
        try:
            resolve_model(scan, name)
        except DarkroomError as error:
            remedy = "name one that is there: --default-model, --load-model"
            findings.append(Finding("models named", Health.FAILED, str(error), remedy))
    return findings or [Finding("models named", Health.OK, ", ".join(named))]


def check_state_file(settings: ServerConfig) -> list[Finding]:
    """The folder of the state file is there and can be written to."""
    if settings.state_file is None:
        return []
    folder = settings.state_file.parent
    if os.access(folder, os.W_OK | os.X_OK):
        return [Finding("state file", Health.OK, str(settings.state_file))]
    remedy = "make it, owned by the user who serves, or name another: --state-file"
    what = "cannot be written to" if folder.is_dir() else "is no folder"
    return [Finding("state file", Health.FAILED, f"{folder} {what}", remedy)]


def check_limits_storage(settings: ServerConfig) -> list[Finding]:
    """The store of limits and credits answers."""
    url = settings.limits_storage
    if url == "memory":
        return []
    shown = urlsplit(url).netloc.rpartition("@")[2]
    try:
        asyncio.run(read_shared_spent(url, ["doctor"]))
    except (DarkroomError, ValueError) as error:
        remedy = "start Redis there, or name another: --limits-storage"
        return [Finding("limits storage", Health.FAILED, f"{shown}: {error}", remedy)]
    return [Finding("limits storage", Health.OK, f"Redis at {shown} answers")]


def check_traces(settings: ServerConfig) -> list[Finding]:
    """What sends traces is installed, and a collector listens."""
    endpoint = settings.otlp_endpoint
    if endpoint is None:
        return []
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        remedy = "install darkroom-server[otlp], or leave --otlp-endpoint out"
        return [Finding("traces", Health.FAILED, "opentelemetry-sdk is not installed", remedy)]
    remedy = "give http://HOST:PORT of a collector that takes OTLP over gRPC: --otlp-endpoint"
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        address = (parts.hostname or "", parts.port or _OTLP_PORT)
        socket.create_connection(address, _WAIT_S).close()
    except (OSError, ValueError) as error:
        text = f"{endpoint}: {getattr(error, 'strerror', None) or error}; traces would be lost"
        return [Finding("traces", Health.WARNING, text, remedy)]
    return [Finding("traces", Health.OK, f"{endpoint} takes connections")]
