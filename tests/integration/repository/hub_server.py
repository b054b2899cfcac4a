"""A hub on loopback: the calls that huggingface_hub makes to look up and fetch a model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """What the hub holds, and what it was asked for.

    `gated` repositories refuse everybody. A file in `cut_after` breaks off at that byte, once.
    """

    files: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut_after: dict[str, int] = field(default_factory=dict)
    sent_bytes: dict[str, int] = field(default_factory=dict)
    address: str = ""


@contextmanager
def serving_hub(hub: Hub) -> Iterator[Hub]:
    """The hub, answering until the block is left."""

    class Handler(_Handler):
        content = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    content: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = [unquote(part) for part in urlparse(self.path).path.strip("/").split("/")]
        is_api = parts[:2] == ["api", "models"]
        repo_id = "/".join(parts[2:4] if is_api else parts[:2])
        if repo_id not in self.content.files:
            self._refuse(404, "RepoNotFound")
        elif is_api and len(parts) > 5 and parts[5] not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif is_api:
            files = self.content.files[repo_id]
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            found = {"id": repo_id, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(found).encode(), {"content-type": "application/json"})
        elif repo_id in self.content.gated:
            self._refuse(403, "GatedRepo")
        else:
            self._file(repo_id, "/".join(parts[4:]))

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"x-error-code": code, "x-error-message": code})

    def _file(self, repo_id: str, name: str) -> None:
        data = self.content.files[repo_id][name]
        begin = int(self.headers.get("range", "bytes=0-")[6:].split("-")[0])
        headers = {
            "etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "x-repo-commit": COMMIT,
            "accept-ranges": "bytes",
        }
        if begin:
            headers["content-range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        cut = self.content.cut_after.pop(name, None) if self.command == "GET" else None
        sent = self._send(206 if begin else 200, data[begin:], headers, cut)
        self.content.sent_bytes[name] = self.content.sent_bytes.get(name, 0) + sent

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
    ) -> int:
        self.send_response(status)
        for key, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return 0
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True
        return len(body[:cut])
