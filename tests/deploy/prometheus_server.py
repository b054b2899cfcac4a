"""A real Prometheus that scrapes a registry of ours, where Debian's package is installed."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

WAIT_S = 120.0
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="no Prometheus here (on Debian and Ubuntu: apt install prometheus)",
)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    url: str

    def get(self, path: str, **params: str) -> Any:
        """The data of an answer of its API."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=WAIT_S)
        assert answer.json()["status"] == "success", answer.text
        return answer.json()["data"]

    def until(self, found: Callable[[], Any]) -> Any:
        """What is found once something is."""
        until_s = time.monotonic() + WAIT_S
        while not (value := found()):
            assert time.monotonic() < until_s, "it does not come"
            time.sleep(0.2)
        return value


@contextmanager
def exporter(render: Callable[[], bytes]) -> Iterator[int]:
    """A server of metrics on a free port."""

    class Scraped(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = render()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Scraped)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


@contextmanager
def prometheus(folder: Path, port: int, *, rules: str = "") -> Iterator[Prometheus]:
    """One that scrapes the port each second, with these rules."""
    (folder / "rules.yml").write_text(rules or "groups: []")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": "darkroom", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                "prometheus",
                "--web.listen-address=127.0.0.1:0",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
            ],
            stderr=out,
        )
    try:
        yield Prometheus(f"http://127.0.0.1:{_port_of(process, log)}")
    finally:
        process.terminate()
        process.wait()


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """The free port that it took: where its process listens, for its log has the 0 it was given."""
    import psutil

    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        assert process.poll() is None, log.read_text()
        listening = [
            one.laddr.port
            for one in psutil.Process(process.pid).net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        ]
        if listening and httpx.get(f"http://127.0.0.1:{listening[0]}/-/ready").is_success:
            return int(listening[0])
        time.sleep(0.1)
    raise AssertionError(log.read_text())
