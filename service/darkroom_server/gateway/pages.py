"""Pages of other sites, which a browser on this machine may hold: they are served nothing.

Without keys everybody who reaches the port is served, and a browser reaches it for every page that
is open in it. It sends the page's origin (`origin`, `sec-fetch-site`) and the host name of the URL
(`host`): a name that is not this machine's may be one whose owner made it resolve to this machine
(DNS rebinding), so that the page seems to be ours.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from darkroom_server.domain.errors import DarkroomError, InvalidParameter, PermissionDenied
from darkroom_server.gateway.authentication import is_rpc, render_of
from darkroom_server.gateway.error_responses import Problem, Render, problem_of, refusal

#: What a page sends to another site without asking first, and no program's HTTP library by itself.
#: Forms' types are what a page may send as well, and what curl and edits of images do: of those, as
#: of all others, the origin decides.
_TEXT = "text/plain"
#: Methods that change nothing: what they answer, the browser keeps from pages of other origins.
_LOOKING = ("GET", "HEAD", "OPTIONS")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRules:
    """By which names the server may be called, None for any, and from pages of which origins."""

    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()

    def check(self, method: str, headers: Headers) -> None:
        """Raises PermissionDenied."""
        host = headers.get("host", "")
        if self.hosts is not None and host and not self._is_ours(host):
            raise PermissionDenied(
                f"This server is not called {_shown(_name_of(host))}; if it is, add that to its "
                "setting `allowed_hosts`."
            )
        origin = headers.get("origin")
        if origin is not None:
            self._check_origin(origin, host, headers)
        elif method not in _LOOKING:
            self._check_without_origin(host, headers)

    def _check_origin(self, origin: str, host: str, headers: Headers) -> None:
        # A proxy may have changed the host, and the browser knows better.
        is_same = headers.get("sec-fetch-site") == "same-origin" or _is_same(origin, host)
        if not is_same and "*" not in self.origins and origin not in self.origins:
            raise _foreign(_shown(origin))

    def _check_without_origin(self, host: str, headers: Headers) -> None:
        """Browsers that leave it out say whose page it is in other ways; programs do not."""
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise _foreign("another site")
        referer = headers.get("referer")
        if referer is not None:
            self._check_origin(_origin_of(referer), host, headers)

    def _is_ours(self, host: str) -> bool:
        name = _name_of(host)
        return name in (self.hosts or ()) or is_of_this_machine(name)


def _foreign(whose: str) -> PermissionDenied:
    return PermissionDenied(
        f"Pages of {whose} may not call this server; if they should, add their origin to its "
        "setting `cors_origins`."
    )


def is_of_this_machine(name: str) -> bool:
    """Whether the name, as it stands in a URL, is one that leads nowhere else."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """The host without its port, as names are compared."""
    name, colon, port = host.rpartition(":")
    is_port = bool(colon) and (not port or port.isdecimal())
    return (
        (name if is_port and (":" not in name or name.endswith("]")) else host).lower().rstrip(".")
    )


def _is_same(origin: str, host: str) -> bool:
    """Whether the origin is that of the host it was sent to."""
    try:
        of_page = urlsplit(origin)
        called = urlsplit(f"{of_page.scheme}://{host}")
        default = _DEFAULT_PORTS.get(of_page.scheme)
        return bool(called.hostname) and (of_page.hostname, of_page.port or default) == (
            called.hostname,
            called.port or default,
        )
    except ValueError:
        return False


def _origin_of(address: str) -> str:
    """Of the page at that address; `null` where it has none."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "null"
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else "null"


def _shown(text: str) -> str:
    return text[:100].encode("ascii", "replace").decode()


class Pages:
    """Middleware: what a page of another site asks for is refused, unread."""

    def __init__(self, app: ASGIApp, rules: PageRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        if scope["type"] == "http":
            answer = self._refusal(scope)
            if answer is not None:
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        try:
            self._rules.check(scope["method"], headers)
        except DarkroomError as error:
            return refusal(problem_of(error), _render_of(path))
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] != "POST" or media_type != _TEXT:
            return None
        text = f"the body is said to be {media_type}; send JSON as application/json"
        problem = problem_of(InvalidParameter("content-type", text))
        return refusal(replace(problem, http_status=415), _render_of(path))


def _render_of(path: str) -> Render:
    return _connect if is_rpc(path) else render_of(path)


def _connect(problem: Problem) -> dict[str, str]:
    """In Connect's form; gRPC-Web reads the HTTP status alone."""
    return {"code": problem.code.lower(), "message": problem.message}
