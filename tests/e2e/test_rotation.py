"""Certificates replaced while callers come and go, the port of the administration, ages."""

from __future__ import annotations

import datetime
import functools
import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest
import trustme
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.serving import DARKROOM, Server, serving
from darkroom_client import Client, tls_credentials
from darkroom_client.errors import Unauthenticated, Unavailable

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
def load(*calls: Callable[[], object]) -> Iterator[list[str]]:
    """Callers that come, make a call and go; what they fail of. Of each some calls are made."""
    ended, failed = threading.Event(), list[str]()
    made = [threading.Semaphore(0) for _ in calls]

    def come_and_go(call: Callable[[], object], mark: threading.Semaphore) -> None:
        while not ended.is_set():
            try:
                call()
            except Exception as error:
                failed.append(repr(error))
            mark.release()

    def wait(count: int) -> None:
        for mark in made:
            for _ in range(count):
                assert mark.acquire(timeout=WAIT_S)

    threads = [
        threading.Thread(target=come_and_go, args=one) for one in zip(calls, made, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        wait(1)
        yield failed
        wait(8)
    finally:
        ended.set()
        for thread in threads:
            thread.join(WAIT_S)


def draw(server: Server, credentials: grpc.ChannelCredentials | None = None, key: str = "") -> None:
    """Connects, makes an image, and leaves."""
    with Client(
        server.address, credentials=credentials, api_key=key or None, max_attempts=1
    ) as client:
        client.generate("x", seed=1, timeout=WAIT_S)


def flags_of(folder: Path) -> tuple[str, ...]:
    return ("--tls-certificate", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))


REFUSED = "certificates not read again; those before still count"


def test_certificates_rotate_under_load_without_a_failed_call(models: Path, tmp_path: Path) -> None:
    first, second = trustme.CA(), trustme.CA()
    both = tmp_path / "both.pem"
    both.write_bytes(first.cert_pem.bytes() + second.cert_pem.bytes())
    new_alone = tmp_path / "second.pem"
    second.cert_pem.write_to_path(new_alone)
    issue(tmp_path, first)
    with serving(models, *flags_of(tmp_path)) as server:
        server.until("model", state="ready")
        trusted = tls_credentials(ca=both)
        http_port = server.until("listening")["http_port"]

        def over_grpc() -> None:
            draw(server, trusted)

        def over_http(ca: Path = both) -> None:
            context = ssl.create_default_context(cafile=str(ca))
            body = {"prompt": "x", "seed": 1}
            url = f"https://127.0.0.1:{http_port}/v1/images/generations"
            httpx.post(url, json=body, verify=context, timeout=WAIT_S).raise_for_status()

        with load(over_grpc, over_grpc, over_http, over_http) as failed:
            mark = len(server.log)
            put(tmp_path, b"no certificate", b"no key")
            server.until(REFUSED, after=mark)
            mark = len(server.log)
            issue(tmp_path, first, days=-1)
            server.until(REFUSED, after=mark)
            mark = len(server.log)
            issue(tmp_path, second)
            server.until("certificates read", after=mark)
        assert failed == []
        draw(server, tls_credentials(ca=new_alone))
        over_http(new_alone)


def test_the_clients_ca_rotates_under_load_without_a_failed_call(
    models: Path, tmp_path: Path
) -> None:
    """As one does it: the server takes both, the clients change over, the old one goes."""
    own, first, second = trustme.CA(), trustme.CA(), trustme.CA()
    issue(tmp_path, own)
    own.cert_pem.write_to_path(tmp_path / "own.pem")
    clients = {}
    for name, authority in (("first", first), ("second", second)):
        issued = authority.issue_cert("client@example.com")
        files = tmp_path / f"{name}-cert.pem", tmp_path / f"{name}-key.pem"
        files[0].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(files[1])
        clients[name] = tls_credentials(ca=tmp_path / "own.pem", certificate=files[0], key=files[1])
    accepted = tmp_path / "clients.pem"
    accepted.write_bytes(first.cert_pem.bytes())

    def accept(content: bytes) -> None:
        mark = len(server.log)
        (tmp_path / "new").write_bytes(content)
        os.replace(tmp_path / "new", accepted)
        server.until(REFUSED if content == b"nothing" else "certificates read", after=mark)

    with serving(models, *flags_of(tmp_path), "--tls-client-ca", str(accepted)) as server:
        server.until("model", state="ready")
        used = ["first"]

        def call() -> None:
            draw(server, clients[used[-1]])

        with load(call, call, call) as failed:
            accept(b"nothing")
            accept(first.cert_pem.bytes() + second.cert_pem.bytes())
            used.append("second")
        assert failed == []
        with load(call, call, call) as failed:
            accept(second.cert_pem.bytes())
        assert failed == []
        with pytest.raises(Unavailable):
            draw(server, clients["first"])


def test_keys_rotate_under_load_without_a_failed_call(models: Path, tmp_path: Path) -> None:
    """A second key comes, callers change over, the first goes; a broken file changes nothing.

    What is added is read at once by SIGHUP, what is taken away because the file is another.
    """
    file = tmp_path / "keys.toml"
    command = [*DARKROOM, "keys", "create", "x", "--keys-file", str(file)]
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    first = run(command).stdout.strip()
    good = file.read_bytes()
    second = run(command).stdout.strip()
    both = file.read_bytes()

    def put_keys(content: bytes) -> int:
        mark = len(server.log)
        (tmp_path / "new").write_bytes(content)
        os.replace(tmp_path / "new", file)
        return mark

    file.write_bytes(good)
    with serving(models, "--keys-file", str(file)) as server:
        server.until("model", state="ready")
        used = [first]

        def call() -> None:
            draw(server, key=used[-1])

        with load(call, call, call) as failed:
            mark = put_keys(b"[[keys")
            server.signal_all(signal.SIGHUP)
            server.until("keys not read again; those before still count", after=mark)
            mark = put_keys(both)
            server.signal_all(signal.SIGHUP)
            server.until("keys read", after=mark)
            used.append(second)
        assert failed == []
        with load(call, call, call) as failed:
            mark = len(server.log)
            run([*DARKROOM, "keys", "revoke", first.split("_")[1], "--keys-file", str(file)])
            server.until("keys read", after=mark)
        assert failed == []
        with pytest.raises(Unauthenticated):
            draw(server, key=first)


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
