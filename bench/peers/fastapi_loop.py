"""A FastAPI service with a loop around diffusers, as people write it by hand: batches of equals.

It begins nothing for callers that have hung up. What runs, runs on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from bench.peers.flags import arguments
from bench.peers.grouped import Asked, GroupedPipeline, key_of


@dataclass(slots=True)
class Waiting:
    """A request, until its picture is made."""

    asked: Asked
    request: Request
    made: asyncio.Future[bytes]
    since_s: float


class Loop:
    """Takes the oldest request and those equal to it, again and again."""

    def __init__(self, model: GroupedPipeline, max_images: int, max_delay_s: float) -> None:
        self._model = model
        self._max_images = max_images
        self._max_delay_s = max_delay_s
        self._queue: list[Waiting] = []
        self._came = asyncio.Event()

    async def make(self, asked: Asked, request: Request) -> bytes:
        made: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._queue.append(Waiting(asked, request, made, time.monotonic()))
        self._came.set()
        return await made

    async def run(self) -> None:
        while True:
            batch = await self._next()
            try:
                images = await asyncio.to_thread(self._model.run, [one.asked for one in batch])
            except Exception as error:
                for one in batch:
                    one.made.set_exception(error)
                continue
            for one, image in zip(batch, images, strict=True):
                one.made.set_result(image)

    async def _next(self) -> list[Waiting]:
        while True:
            await self._drop_gone()
            if not self._queue:
                self._came.clear()
                await self._came.wait()
                continue
            first = self._queue[0]
            key = key_of(first.asked)
            batch = [one for one in self._queue if key_of(one.asked) == key][: self._max_images]
            waits_s = first.since_s + self._max_delay_s - time.monotonic()
            if len(batch) == self._max_images or waits_s <= 0:
                self._queue = [one for one in self._queue if one not in batch]
                return batch
            self._came.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), waits_s)

    async def _drop_gone(self) -> None:
        for one in list(self._queue):
            if await one.request.is_disconnected():
                self._queue.remove(one)
                one.made.cancel()


def app_of(args: Any) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model = GroupedPipeline(args.model, args.threads)
        app.state.loop = loop = Loop(model, args.max_images, args.max_delay_s)
        running = asyncio.create_task(loop.run())
        yield
        running.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.post("/generate")
    async def generate(request: Request) -> Response:
        content = await app.state.loop.make(await request.json(), request)
        return Response(content, media_type="image/png")

    return app


if __name__ == "__main__":
    flags = arguments()
    uvicorn.run(app_of(flags), host="127.0.0.1", port=flags.port, log_level="warning")
