from __future__ import annotations

import datetime
import socket
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from darkroom_server.cli import diagnosis
from darkroom_server.cli.main import app

FREE = ("--grpc-port", "0", "--http-port", "0")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "tiny" / "1").mkdir(parents=True)
    (folder / "tiny" / "config.pbtxt").write_text("backend: BACKEND_FAKE\n")
    return folder


def doctor(*flags: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *FREE, *flags])
    return done.exit_code, done.output


def line_of(output: str, subject: str) -> str:
    return next(line for line in output.splitlines() if line[8:].startswith(subject))


def certificate(folder: Path, *, days: float) -> tuple[str, ...]:
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    made = trustme.CA().issue_cert("127.0.0.1", not_after=ends)
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
    made.private_key_pem.write_to_path(folder / "key.pem")
    return (
        *("--tls-certificate", str(folder / "cert.pem")),
        *("--tls-key", str(folder / "key.pem")),
    )


def test_a_machine_that_is_well_has_a_line_for_everything(models: Path) -> None:
    code, output = doctor("--model-repository", str(models))
    assert code == 0, output
    assert line_of(output, "repository").endswith("tiny")
    for subject in ("versions", "clock", "exposure", "port, gRPC", "devices", "memory"):
        assert not line_of(output, subject).startswith("FAILED")


@pytest.mark.parametrize("what", ["HTTP", "admin"])
def test_a_port_that_is_taken_is_named_with_its_flag(models: Path, what: str) -> None:
    flag = f"--{what.lower()}-port"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, output = doctor("--model-repository", str(models), flag, str(port))
    assert code == 1
    assert line_of(output, f"port, {what}").startswith("FAILED")
    assert flag in output


@pytest.mark.parametrize(
    ("days", "health"),
    [
        pytest.param(100, "ok", id="good"),
        pytest.param(3, "warning", id="soon"),
        pytest.param(-1, "FAILED", id="expired"),
    ],
)
def test_a_certificate_is_looked_at_by_its_dates(
    models: Path, tmp_path: Path, days: float, health: str
) -> None:
    flags = certificate(tmp_path, days=days)
    _, output = doctor("--model-repository", str(models), *flags)
    assert line_of(output, "certificates").startswith(health), output


@pytest.mark.parametrize(
    ("flags", "subject", "remedy"),
    [
        pytest.param(
            ("--model-repository", "nowhere"), "repository", "--model-repository", id="repository"
        ),
        pytest.param(("--host", "0.0.0.0"), "exposure", "--keys-file", id="exposure"),
        pytest.param(("--keys-file", "none.toml"), "keys", "darkroom keys create", id="keys"),
        pytest.param(("--tls-certificate", "c.pem"), "certificates", "--tls-key", id="half-of-tls"),
        pytest.param(
            ("--default-model", "nobody"), "models named", "--default-model", id="default-model"
        ),
        pytest.param(
            ("--model-control", "explicit", "--load-model", "tiny", "--load-model", "nobody"),
            "models named",
            "--load-model",
            id="model-to-load",
        ),
        pytest.param(
            ("--state-file", "none/state.json"), "state file", "--state-file", id="state-file"
        ),
        pytest.param(
            ("--limits-storage", "redis://someone:secret@127.0.0.1:1/0"),
            "limits storage",
            "start Redis",
            id="redis",
        ),
    ],
)
def test_what_is_in_the_way_is_told_with_what_helps(
    models: Path, flags: tuple[str, ...], subject: str, remedy: str
) -> None:
    code, output = doctor("--model-repository", str(models), *flags)
    assert code == 1
    assert line_of(output, subject).startswith("FAILED")
    assert remedy in output
    assert "secret" not in output


def test_what_settings_name_is_well_when_it_is_there(models: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as collector:
        flags = ("--default-model", "models/tiny", "--state-file", str(tmp_path / "state.json"))
        endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
        code, output = doctor(
            "--model-repository", str(models), *flags, "--otlp-endpoint", endpoint
        )
    assert code == 0, output
    for subject in ("models named", "state file", "traces"):
        assert line_of(output, subject).startswith("ok"), output


def test_a_collector_that_does_not_listen_is_warned_of(models: Path) -> None:
    for endpoint in ("http://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:x"):
        code, output = doctor("--model-repository", str(models), "--otlp-endpoint", endpoint)
        assert (code, line_of(output, "traces")[:7]) == (0, "warning")


def test_a_certificate_that_has_ended_is_to_be_replaced(models: Path, tmp_path: Path) -> None:
    _, output = doctor("--model-repository", str(models), *certificate(tmp_path, days=-1))
    assert "put a new one in its place" in output


def test_a_clock_before_the_installation_is_wrong(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis.time, "time", lambda: 1.0)
    _, output = doctor("--model-repository", str(models))
    assert line_of(output, "clock").startswith("FAILED")


def test_few_open_files_are_warned_of(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.resource, "getrlimit", lambda _: (256, 256))
    _, output = doctor("--model-repository", str(models))
    assert line_of(output, "open files").startswith("warning")
    assert "LimitNOFILE" in output


def test_settings_that_are_none_are_told_as_by_serve() -> None:
    code, output = doctor("--trace-share", "2")
    assert (code, "trace_share" in output) == (2, True)
