"""Addresses and methods that are not served: errors in the format of the address's dialect."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException

from darkroom_server.domain.errors import DarkroomError, MethodNotAllowed, UnknownRoute
from darkroom_server.gateway.authentication import refused


def add_route_errors(app: FastAPI) -> None:
    """For what the router refuses by itself."""

    @app.exception_handler(HTTPException)
    async def answer(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        if error.status_code not in (404, 405):
            return await http_exception_handler(request, error)
        found: DarkroomError = UnknownRoute(f"nothing is served at {path}")
        if error.status_code == 405:
            found = MethodNotAllowed(f"{request.method} is not served at {path}")
        response = refused(path, found)
        response.headers.update(error.headers or {})
        return response
