"""What callers see stays the same with models on Ray: reflection, keys, TLS, HTTP.

Needs Ray: `make test-ray`.
"""

from __future__ import annotations

import base64
import contextlib
import io
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from PIL import Image

from bench.serving import Server, serving
from darkroom_client import Client, tls_credentials
from darkroom_client.errors import Unauthenticated
from darkroom_server.access.key_format import new_key
from darkroom_server.access.keys_file import add_key
from darkroom_server.domain.keys import Permission
from tests.unit.access.example_keys import api_key

pytest.importorskip("ray", reason="needs Ray: make test-ray")

pytestmark = pytest.mark.timeout(1200)
END_TIMEOUT_S = 300.0
START_COUNT = 3
PROGRAM = (sys.executable, "-m", "darkroom_server.cli.main")
CONFIG = """
backend: BACKEND_FAKE
fake { step_s: 0.01 }
version_labels { key: "stable" value: 1 }
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A server with TLS and keys, its models on Ray."""

    server: Server
    ca: Path
    key: str

    @property
    def http(self) -> httpx.Client:
        """Over the gateway, with the key."""
        port = self.server.until("listening")["http_port"]
        return httpx.Client(
            base_url=f"https://127.0.0.1:{port}",
            verify=ssl.create_default_context(cafile=self.ca),
            headers={"authorization": f"Bearer {self.key}"},
            timeout=300,
        )

    @contextlib.contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        """Over gRPC, without a key."""
        with grpc.secure_channel(
            self.server.address, grpc.ssl_channel_credentials(self.ca.read_bytes())
        ) as channel:
            yield channel


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder = tmp_path_factory.mktemp("edge")
    for version in ("1", "2"):
        (folder / "models" / "fake" / version).mkdir(parents=True)
    (folder / "models" / "fake" / "config.pbtxt").write_text(CONFIG)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    made = new_key()
    add_key(folder / "keys.toml", api_key(made, permissions=frozenset(Permission)))
    flags = [
        *("--on", "ray", "--model-control", "explicit", "--keys-file", str(folder / "keys.toml")),
        *("--tls-certificate", str(folder / "server.pem")),
        *("--tls-key", str(folder / "server.pem")),
    ]
    with _listening(folder / "models", flags) as server:
        yield Edge(server, folder / "ca.pem", made.text)
        server.process.terminate()
        server.process.wait(END_TIMEOUT_S)


@contextlib.contextmanager
def _listening(models: Path, flags: Sequence[str]) -> Iterator[Server]:
    """A server on Ray, which on a busy machine may give up the start of a node after 30 s."""
    with contextlib.ExitStack() as stack:
        for tries_left in reversed(range(START_COUNT)):
            server = stack.enter_context(serving(models, *flags, program=PROGRAM))
            try:
                server.until("listening")
            except AssertionError:
                if not tries_left:
                    raise
                # It has said why, and is about to end.
                server.process.wait(END_TIMEOUT_S)
                continue
            break
        yield server


class Described:
    """Calls of a server by what it says of itself, as grpcurl makes them."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._channel, self._metadata = channel, (("authorization", f"Bearer {key}"),)
        self._pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))

    def call(self, service: str, method: str, **fields: Any) -> list[dict[str, Any]]:
        """The answers, as JSON has them."""
        found = self._pool.FindServiceByName(f"darkroom.v1.{service}").methods_by_name[method]
        asked = message_factory.GetMessageClass(found.input_type)
        answered = message_factory.GetMessageClass(found.output_type)
        request = json_format.ParseDict(fields, asked(), descriptor_pool=self._pool)
        answers = self._channel.unary_stream(
            f"/darkroom.v1.{service}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )(request, metadata=self._metadata, timeout=600)
        told = (json_format.MessageToDict(one, descriptor_pool=self._pool) for one in answers)
        return [one.get("event", one) for one in told]


def test_a_client_that_knows_no_proto_loads_labels_lists_generates_and_fills(edge: Edge) -> None:
    with edge.channel() as channel:
        told = Described(channel, edge.key)
        for version in ("1", "2"):
            states = told.call("ModelService", "LoadModel", name="models/fake", version=version)
            assert states, version
        (listed,) = told.call("ModelService", "ListModels")
        versions = {one["version"]: one["state"] for one in listed["models"][0]["versions"]}
        assert versions == {"1": "STATE_READY", "2": "STATE_READY"}
        told.call("ModelService", "SetVersionLabel", name="fake", label="next", version="2")
        request = {"model": "fake", "prompt": "x", "widthPx": 64, "heightPx": 64, "stepCount": 4}
        made = told.call("ImageService", "Generate", **request, seed="7", version="next")
        accepted = next(one["accepted"] for one in made if "accepted" in one)
        assert accepted["parameters"]["modelVersion"] == "2"
        filled = told.call("ImageService", "Fill", **_fill())
        for answers in (made, filled):
            assert "completed" in answers[-1]


def _png(color: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(file, "PNG")
    return file.getvalue()


def _fill() -> Mapping[str, Any]:
    pictures = {"image": _png((10, 20, 30)), "mask": _png((255, 255, 255))}
    encoded = {
        name: {"content": base64.b64encode(content).decode()} for name, content in pictures.items()
    }
    return {"model": "fake", "prompt": "x", "stepCount": 4, "seed": "7", **encoded}


def test_health_and_keys_are_those_of_one_machine(edge: Edge) -> None:
    with edge.channel() as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    address = edge.server.address
    credentials = tls_credentials(ca=edge.ca)
    with Client(address, credentials=credentials) as client, pytest.raises(Unauthenticated):
        client.list_models()
    with Client(address, credentials=credentials, api_key=edge.key) as client:
        (model,) = client.list_models()
    assert model.name.endswith("fake")


def test_the_gateway_and_the_page_work_as_on_one_machine(edge: Edge) -> None:
    with edge.http as http:
        _wait_for(lambda: bool(_loaded(http)))
        body = {"model": "fake", "prompt": "x", "size": "64x64", "response_format": "b64_json"}
        twice = [http.post("/v1/images/generations", json={**body, "seed": 7}) for _ in range(2)]
        assert [one.status_code for one in twice] == [200, 200], twice[0].text
        first, second = (one.json()["data"][0]["b64_json"] for one in twice)
        assert first == second
        page = http.get("/")
        assert page.status_code == 200
        assert "<html" in page.text
    with edge.http as http:
        http.headers["authorization"] = "Bearer wrong"
        assert http.post("/v1/images/generations", json=body).status_code == 401


def _loaded(http: httpx.Client) -> list[str]:
    return [one["id"] for one in http.get("/v1/models").json()["data"]]


def _wait_for(done: Callable[[], bool]) -> None:
    end_s = time.monotonic() + END_TIMEOUT_S
    while not done():
        assert time.monotonic() < end_s
        time.sleep(0.2)
