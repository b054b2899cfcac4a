"""A package index of a folder that remembers what it was asked for."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Index:
    """One that answers, and the names that it was asked for."""

    url: str
    asked: set[str] = field(default_factory=set)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@contextmanager
def index_of(folder: Path) -> Iterator[Index]:
    """Serves the packages of a folder in the simple form; a name that it lacks is 404."""

    class Simple(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, kind, name, *_ = self.path.split("/")
            if kind == "files":
                return self.give((folder / name).read_bytes(), "application/octet-stream")
            index.asked.add(_normal(name))
            files = [
                file.name
                for file in folder.iterdir()
                if _normal(file.name).startswith(_normal(name) + "-")
            ]
            if not files:
                return self.send_error(404)
            links = [f'<a href="/files/{html.escape(file)}">{file}</a>' for file in files]
            return self.give("\n".join(links).encode(), "text/html")

        def give(self, content: bytes, media_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Simple)
    index = Index(f"http://127.0.0.1:{server.server_port}/simple")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
