"""The server with Ray Serve's own routing, to be compared with: `bench.ray_served`."""

from __future__ import annotations

from ray.serve.config import RequestRouterConfig

from darkroom_server.cli.main import main
from darkroom_server.scale_out import cluster

if __name__ == "__main__":
    cluster.RequestRouterConfig = lambda **_: RequestRouterConfig()
    main()
