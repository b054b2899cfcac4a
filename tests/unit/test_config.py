from __future__ import annotations

from pathlib import Path

import pytest

from darkroom_server.config import ConfigError, ServerConfig, load_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "darkroom.toml"
    path.write_text('grpc_port = 1\nhost = "from-file"\nlog_level = "debug"\n')
    return path


def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_GRPC_PORT", "2")
    monkeypatch.setenv("DARKROOM_HOST", "from-variable")
    flags = {"grpc_port": 3, "host": None}
    config = load_config(flags, file=file, environment={})
    assert (config.grpc_port, config.host, config.log_level) == (3, "from-variable", "debug")
    assert config.http_port == ServerConfig.model_fields["http_port"].default


def test_the_file_may_be_named_by_a_variable(file: Path) -> None:
    config = load_config({}, file=None, environment={"DARKROOM_CONFIG": str(file)})
    assert config.grpc_port == 1


@pytest.mark.parametrize(
    ("flags", "content", "environment", "problem"),
    [
        pytest.param(
            {"grpc_port": 99999}, "", {}, "grpc_port: Input should be less", id="out-of-range"
        ),
        pytest.param(
            {}, "grpc_prt = 3", {}, "grpc_prt: unknown setting; did you mean grpc_port?", id="key"
        ),
        pytest.param(
            {},
            "",
            {"DARKROOM_GRPC_PROT": "3"},
            "DARKROOM_GRPC_PROT: unknown variable; did you mean DARKROOM_GRPC_PORT?",
            id="variable",
        ),
        pytest.param({}, "x = = 3", {}, "darkroom.toml: ", id="no-toml"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    flags: dict[str, object],
    content: str,
    environment: dict[str, str],
    problem: str,
) -> None:
    path = tmp_path / "darkroom.toml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_config(flags, file=path, environment=environment)
    [found] = caught.value.problems
    assert problem in found


def test_a_file_that_is_not_there_is_named_however_it_was_given(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    for file, environment in ((missing, {}), (None, {"DARKROOM_CONFIG": str(missing)})):
        with pytest.raises(ConfigError, match=r"missing\.toml: No such file"):
            load_config({}, file=file, environment=environment)


def test_the_clients_variable_is_no_mistake() -> None:
    assert load_config({}, file=None, environment={"DARKROOM_SERVER": "host:1"})


@pytest.mark.parametrize(
    ("host", "flags", "is_refused"),
    [
        pytest.param("127.0.0.1", {}, False, id="loopback"),
        pytest.param("127.8.8.8", {}, False, id="all-of-loopback"),
        pytest.param("::1", {}, False, id="loopback-6"),
        pytest.param("localhost", {}, False, id="localhost"),
        pytest.param("0.0.0.0", {}, True, id="everywhere"),
        pytest.param("::", {}, True, id="everywhere-6"),
        pytest.param("10.0.0.7", {}, True, id="private"),
        pytest.param("example.com", {}, True, id="a-name"),
        pytest.param("0.0.0.0", {"keys_file": "keys.toml"}, False, id="keys"),
        pytest.param("0.0.0.0", {"tls_certificate": "c", "tls_key": "k"}, False, id="tls"),
        pytest.param("0.0.0.0", {"insecure": True}, False, id="told-so"),
    ],
)
def test_strangers_are_not_served_by_oversight(
    host: str, flags: dict[str, object], is_refused: bool
) -> None:
    config = load_config({"host": host, **flags}, file=None, environment={})
    if not is_refused:
        config.check_exposure()
        return
    with pytest.raises(ConfigError, match=f"host {host} .*darkroom keys create.*--insecure"):
        config.check_exposure()


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"tls_certificate": "c"}, "go together"),
        ({"tls_key": "k"}, "go together"),
        ({"tls_client_ca": "ca"}, "needs tls_certificate"),
    ],
)
def test_half_of_tls_is_none(flags: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(flags, file=None, environment={}).tls_files()


@pytest.mark.parametrize("url", ["redis:/x", "http://redis", "mongodb://x", ""])
def test_limits_are_counted_in_memory_or_in_redis(url: str) -> None:
    with pytest.raises(ConfigError, match=r"limits_storage: .*redis://"):
        load_config({"limits_storage": url}, file=None, environment={})


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://a.example", "https://a.example/"),
        ("http://a.example:8000/images//", "http://a.example:8000/images/"),
    ],
)
def test_where_callers_reach_the_server_ends_with_a_slash(url: str, base: str) -> None:
    assert load_config({"public_url": url}, file=None, environment={}).public_url == base


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "https://", "https://a/?b", ""])
def test_it_is_an_address_of_the_web(url: str) -> None:
    with pytest.raises(ConfigError, match=r"public_url: .*https://"):
        load_config({"public_url": url}, file=None, environment={})
