"""A port for inspection from the same machine: channelz, health, reflection."""

from __future__ import annotations

from grpc import aio
from grpc_channelz.v1 import channelz

from darkroom_server.engine.engine import Engine
from darkroom_server.rpc.health import HEALTH_SERVICE, HealthService, add_health
from darkroom_server.rpc.reflection import add_reflection

CHANNELZ_SERVICE = "grpc.channelz.v1.Channelz"


class AdminServer:
    """Bound to a port of the loopback address, which asks for no key. Belongs to its event loop."""

    def __init__(self, engine: Engine, port: int) -> None:
        """Raises OSError when the port is taken."""
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        self._health = HealthService(engine)
        channelz.add_channelz_servicer(self._server)
        add_health(self._health, self._server)
        add_reflection((CHANNELZ_SERVICE, HEALTH_SERVICE), self._server)
        address = f"127.0.0.1:{port}"
        try:
            #: The port in use.
            self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address} for administration: taken") from error

    async def start(self) -> None:
        """Begins to answer."""
        await self._server.start()

    async def stop(self) -> None:
        """Ends what still runs."""
        self._health.close()
        await self._server.stop(None)
