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
