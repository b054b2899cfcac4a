"""Ray Serve: one replica with `@serve.batch`, equal parameters grouped inside a batch."""

from __future__ import annotations

import asyncio
import signal

from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from bench.peers.flags import arguments
from bench.peers.grouped import Asked, GroupedPipeline

flags = arguments()


@serve.deployment(num_replicas=1, max_ongoing_requests=4096)
class Pictures:
    """One replica, as there is one device."""

    def __init__(self) -> None:
        self.model = GroupedPipeline(flags.model, flags.threads)

    @serve.batch(max_batch_size=flags.max_images, batch_wait_timeout_s=flags.max_delay_s)
    async def make(self, asked: list[Asked]) -> list[bytes]:
        return await asyncio.to_thread(self.model.run, asked)

    async def __call__(self, request: Request) -> Response:
        return Response(await self.make(await request.json()), media_type="image/png")


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": flags.port})
    serve.run(Pictures.bind(), route_prefix="/generate")
    signal.pause()
