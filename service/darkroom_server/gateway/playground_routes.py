"""The playground: a page and its files, served from this package."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

#: The browser itself ensures that the page requests nothing from another host.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def playground_router(grpc_port: int, *, needs_key: bool) -> APIRouter:
    """`/` is the page, `/playground/…` what it loads, `/docs` where the documentation is.

    `grpc_port` is for the page's snippets: they call gRPC on the host that the page came from.
    Where `needs_key`, the page asks for one.
    """
    router = APIRouter(include_in_schema=False)
    folder = files("darkroom_server.gateway") / "playground"
    # Read once: only names that were found here can be asked for.
    contents = {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in _MEDIA_TYPES
    }

    def answer(name: str) -> Response:
        if name not in contents:
            return Response(status_code=404)
        return Response(
            contents[name],
            headers={
                "content-type": _MEDIA_TYPES[name.rpartition(".")[2]],
                "content-security-policy": _POLICY,
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                "cache-control": "no-cache",
            },
        )

    @router.get("/")
    async def page() -> Response:
        """The page."""
        return answer("index.html")

    @router.get("/docs")
    async def documentation() -> Response:
        """Where the documentation is."""
        return answer("docs.html")

    @router.get("/playground/server.json")
    async def server() -> Response:
        """What the page must know of the server."""
        return JSONResponse({"grpcPort": grpc_port, "needsKey": needs_key})

    @router.get("/playground/{name}")
    async def file(name: str) -> Response:
        """A file of the page."""
        return answer(name)

    return router
