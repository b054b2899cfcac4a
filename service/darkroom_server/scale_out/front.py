"""The front tier as a Serve application, for clusters that run what a config file lists.

`serve deploy` and KubeRay's RayService start Serve applications and nothing else: this one keeps a
`darkroom serve --on ray --address auto` on each node that it is given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from typing import Any

from ray import serve

#: A server that gets SIGTERM has its own drain times; after these it is killed.
END_TIMEOUT_S = 120.0


class Front:
    """One server, in a process of its own: it has its own ports, signals and event loop."""

    async def __init__(  # type: ignore[misc]
        self, settings: Mapping[str, str]
    ) -> None:
        # Serve awaits it.
        environment = {f"DARKROOM_{name.upper()}": value for name, value in settings.items()}
        self._process: Process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "darkroom_server.cli.main", "serve", "--on", "ray", "--address", "auto"),
            env={**os.environ, **environment},
        )

    async def check_health(self) -> None:
        """Serve's health check; raises RuntimeError once the server has ended."""
        if self._process.returncode is not None:
            raise RuntimeError(f"the server ended with {self._process.returncode}")

    async def __call__(self) -> str:
        """Nothing is served through Serve's own proxies."""
        return "Darkroom is served on the ports of its own settings."

    async def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), END_TIMEOUT_S)
        except TimeoutError:
            process.kill()


def application(settings: Mapping[str, Any]) -> Any:
    """What a Serve config file names: `settings` are those of `docs/settings.md`."""
    deployment = serve.deployment(
        name="front",
        max_replicas_per_node=1,
        graceful_shutdown_timeout_s=END_TIMEOUT_S,
        ray_actor_options={"num_cpus": 1},
    )(Front)
    return deployment.bind({name: str(value) for name, value in settings.items()})
