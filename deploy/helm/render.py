"""What Helm would send to a cluster, without one: its own code installs into an API that listens.

    python deploy/helm/render.py VALUES.yaml ... > manifests.yaml

Needs Python 3.12 with `helm-sdkpy`, which has Helm inside, and PyYAML (`make deploy-check`).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

CHART = Path(__file__).parent / "darkroom"
#: Kinds that the chart may make, by group and version.
RESOURCES = {
    "v1": {"configmaps": "ConfigMap", "secrets": "Secret", "services": "Service"},
    "apps/v1": {"deployments": "Deployment"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "keda.sh/v1alpha1": {"scaledobjects": "ScaledObject"},
    "monitoring.coreos.com/v1": {"servicemonitors": "ServiceMonitor"},
}
JSON = "application/json"
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def _groups() -> list[dict[str, Any]]:
    groups = []
    for one in RESOURCES:
        name, _, version = one.rpartition("/")
        if name:
            served = {"groupVersion": one, "version": version}
            groups.append({"name": name, "versions": [served], "preferredVersion": served})
    return groups


def _discovery(path: str) -> dict[str, Any] | None:
    """What a cluster says of itself."""
    if path == "/version":
        return {"major": "1", "minor": "31", "gitVersion": "v1.31.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
    group = path.removeprefix("/apis/").removeprefix("/api/")
    if group not in RESOURCES:
        return None
    found = [
        {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": VERBS}
        for name, kind in RESOURCES[group].items()
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group,
        "resources": found,
    }


class Api(BaseHTTPRequestHandler):
    """Says yes to everything, and keeps what is made but for Helm's own notes."""

    made: list[dict[str, Any]]

    def do_GET(self) -> None:
        """Discovery; of objects there are none."""
        path = urlsplit(self.path).path
        if (found := _discovery(path)) is not None:
            self._answer(200, found)
        elif re.search(r"/(secrets|configmaps)$", path):
            self._answer(200, {"kind": "SecretList", "apiVersion": "v1", "items": []})
        else:
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
            self._answer(404, gone | {"code": 404})

    def do_POST(self) -> None:
        """An object is made. Helm's own note of the release is no JSON."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] == JSON:
            self.made.append(json.loads(content))
        self._send(201, content, self.headers["Content-Type"])

    do_PUT = do_POST

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        self._send(code, json.dumps(body).encode(), JSON)

    def _send(self, code: int, content: bytes, media_type: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def rendered(values: dict[str, Any], *, release: str = "darkroom") -> list[dict[str, Any]]:
    """The objects that an install with these values makes; raises helm_sdkpy.HelmError."""
    import helm_sdkpy

    made: list[dict[str, Any]] = []
    api = ThreadingHTTPServer(("127.0.0.1", 0), type("OneApi", (Api,), {"made": made}))
    threading.Thread(target=api.serve_forever, daemon=True).start()
    cluster = {"server": f"http://127.0.0.1:{api.server_port}"}
    access = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "none", "cluster": cluster}],
        "users": [{"name": "none", "user": {}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "current-context": "none",
    }
    try:
        with helm_sdkpy.Configuration(
            namespace="images", kubeconfig=yaml.safe_dump(access)
        ) as config:
            install = helm_sdkpy.Install(config)
            asyncio.run(install.run(release, str(CHART), values=values, wait=False))
    finally:
        api.shutdown()
    return made


if __name__ == "__main__":
    for name in sys.argv[1:]:
        yaml.safe_dump_all(rendered(yaml.safe_load(Path(name).read_text())), sys.stdout)
        print("---")
