"""Images that can be fetched by address after their call: kept for a limited time and number.

Bound to the event loop.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from darkroom_server.domain.errors import UnknownRoute
from darkroom_server.domain.jobs import JobImage
from darkroom_server.gateway.error_responses import Render
from darkroom_server.gateway.image_calls import answering

#: How long images can be fetched.
KEPT_S = 3600.0
MAX_IMAGE_COUNT = 10_000
MAX_IMAGE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class _Album:
    """What one request has made; its images stay and go together."""

    names: tuple[str, ...]
    images: tuple[JobImage, ...]
    kept_s: float

    @property
    def size_bytes(self) -> int:
        return sum(len(image.content) for image in self.images)


class KeptImages:
    """The images, oldest first. A name is the only permission that is needed to read an image.

    `public_url` is where callers reach this server; None: the address of the present request. `now`
    gives seconds of a monotonic clock.
    """

    def __init__(
        self,
        public_url: str | None = None,
        *,
        max_bytes: int = MAX_IMAGE_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._public_url = public_url
        self._now = now
        self._albums: deque[_Album] = deque()
        self._images: dict[str, JobImage] = {}
        self._kept_bytes = 0

    def keep(self, images: Sequence[JobImage]) -> tuple[str, ...]:
        """Names of the images, which nobody can guess."""
        if not images:
            return ()
        names = tuple(
            f"{secrets.token_hex(16)}.{image.format.value.removeprefix('image/')}"
            for image in images
        )
        album = _Album(names, tuple(images), self._now())
        self._albums.append(album)
        self._images.update(zip(names, images, strict=True))
        self._kept_bytes += album.size_bytes
        self._forget()
        return names

    def find(self, name: str) -> JobImage | None:
        """The image, while it is kept."""
        self._forget()
        return self._images.get(name)

    def base_url(self, request: Request) -> str:
        """Where this server's paths begin for the caller; ends with a slash."""
        return str(request.base_url) if self._public_url is None else self._public_url

    def address(self, request: Request, name: str) -> str:
        """Where the caller of `request` finds the image of that name."""
        return f"{self.base_url(request)}files/{name}"

    def _forget(self) -> None:
        """Drops what is too old, and the oldest while there is too much; the newest stays."""
        oldest_s = self._now() - KEPT_S
        while self._albums and (self._albums[0].kept_s < oldest_s or self._is_crowded()):
            gone = self._albums.popleft()
            self._kept_bytes -= gone.size_bytes
            for name in gone.names:
                del self._images[name]

    def _is_crowded(self) -> bool:
        too_much = self._kept_bytes > self._max_bytes or len(self._images) > MAX_IMAGE_COUNT
        return too_much and len(self._albums) > 1


def files_router(kept: KeptImages, render: Render) -> APIRouter:
    """The route of these addresses; `render` gives its error format."""
    router = APIRouter(tags=["files"])

    @router.get("/files/{name}")
    async def file(request: Request, name: str) -> Response:
        """An image that was made, while it is kept."""

        async def work() -> Response:
            image = kept.find(name)
            if image is None:
                raise UnknownRoute("It is not known here, or no longer kept.")
            return Response(image.content, media_type=image.format.value)

        return await answering(request, render, work())

    return router
