"""Certificates replaced while callers come and go, the port of the administration, ages."""

from __future__ import annotations

import datetime
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.serving import Server, serving
from darkroom_client import Client, tls_credentials

WAIT_S = 120.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "fake" / "1").mkdir(parents=True)
    (folder / "fake" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    return folder


def put(folder: Path, certificate: bytes, key: bytes) -> None:
    """Replaces both files, each at once."""
    for name, content in (("cert.pem", certificate), ("key.pem", key)):
        (folder / "new").write_bytes(content)
        os.replace(folder / "new", folder / name)


def issue(folder: Path, authority: trustme.CA, *, days: float = 30.0) -> None:
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = authority.issue_cert("127.0.0.1", not_after=ends)
    put(folder, b"".join(pem.bytes() for pem in made.cert_chain_pems), made.private_key_pem.bytes())


@contextmanager
def load(server: Server, ca: Path) -> Iterator[list[str]]:
    """Callers that come, make an image and go, and one that stays; what they fail of."""
    ended, failed = threading.Event(), list[str]()
    made = threading.Semaphore(0)

    def come_and_go() -> None:
        while not ended.is_set():
            try:
                with Client(
                    server.address, credentials=tls_credentials(ca=ca), max_attempts=1
                ) as client:
                    client.generate("x", seed=1, timeout=WAIT_S)
            except Exception as error:
                failed.append(repr(error))
            made.release()

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert made.acquire(timeout=WAIT_S)
        yield failed
        for _ in range(20):
            assert made.acquire(timeout=WAIT_S)
    finally:
        ended.set()
        for thread in threads:
            thread.join(WAIT_S)


def test_certificates_rotate_under_load_without_a_failed_call(models: Path, tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    both = tmp_path / "both.pem"
    both.write_bytes(first.cert_pem.bytes() + second.cert_pem.bytes())
    new_alone = tmp_path / "second.pem"
    second.cert_pem.write_to_path(new_alone)
    issue(tmp_path, first)
    files = (
        "--tls-certificate",
        str(tmp_path / "cert.pem"),
        "--tls-key",
        str(tmp_path / "key.pem"),
    )
    refused = "certificates not read again; those before still count"
    with serving(models, *files) as server:
        server.until("model", state="ready")
        with load(server, both) as failed:
            mark = len(server.log)
            put(tmp_path, b"no certificate", b"no key")
            server.until(refused, after=mark)
            mark = len(server.log)
            issue(tmp_path, first, days=-1)
            server.until(refused, after=mark)
            mark = len(server.log)
            issue(tmp_path, second)
            server.until("certificates read", after=mark)
        assert failed == []
        with Client(server.address, credentials=tls_credentials(ca=new_alone)) as client:
            assert client.generate("x", seed=1).images


def test_the_administration_has_a_port_of_its_own(models: Path) -> None:
    with serving(models, "--admin-port", "0", "--connection-age", "3600") as server:
        server.until("model", state="ready")
        port = server.until("administration")["grpc_port"]
        with Client(server.address) as client:
            client.generate("x", seed=1)
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = channelz_pb2_grpc.ChannelzStub(channel)
                found = stub.GetServers(channelz_pb2.GetServersRequest(), timeout=WAIT_S).server
                assert max(one.data.calls_started for one in found) >= 1
                health = health_pb2_grpc.HealthStub(channel)
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        # Callers of the service do not see it.
        with grpc.insecure_channel(server.address) as channel:
            stub = channelz_pb2_grpc.ChannelzStub(channel)
            with pytest.raises(grpc.RpcError) as failed:
                stub.GetServers(channelz_pb2.GetServersRequest(), timeout=WAIT_S)
            assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_call_goes_on_when_its_connection_has_reached_its_age(models: Path) -> None:
    with serving(models, "--connection-age", "0.2") as server:
        server.until("model", state="ready")
        with Client(server.address, max_attempts=1) as client:
            for seed in range(5):
                assert client.generate("x", seed=seed, steps=100).images
