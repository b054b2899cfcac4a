"""Clients that people already have, against a real server."""

from __future__ import annotations

from tests.e2e.gateway.conftest import service

__all__ = ["service"]
