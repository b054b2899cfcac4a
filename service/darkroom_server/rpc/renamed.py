"""Services under another name than that of their generated code."""

from __future__ import annotations

from typing import Any

import grpc
from grpc import aio


class Renamed:
    """A server to the generated code, which registers the methods under its own package.

    A process can register the names of a protocol only once, and its clients bring theirs.
    """

    def __init__(self, server: aio.Server, name: str) -> None:
        self._real = server
        self._name = name

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """They come below, one by one."""

    def add_registered_method_handlers(self, _name: str, methods: dict[str, Any]) -> None:
        """Registers the methods."""
        handler = grpc.method_handlers_generic_handler(self._name, methods)
        self._real.add_generic_rpc_handlers((handler,))
