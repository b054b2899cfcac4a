"""The server's settings: flags, then `DARKROOM_…` variables, then a TOML file, then defaults."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "DARKROOM_CONFIG"
_PREFIX = "DARKROOM_"
#: Variables with the prefix that are not the server's.
_CLIENT_VARIABLES = ("DARKROOM_SERVER",)

Port = Annotated[int, Field(ge=0, le=65535)]


class ServerConfig(BaseSettings):
    """Settings of `darkroom serve`. Unknown keys are refused."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", extra="forbid", frozen=True, protected_namespaces=()
    )

    model_repository: Path = Path("model_repo")
    aliases: dict[str, str] = {}
    model_control: Literal["none", "poll"] = "none"
    repository_poll_s: Annotated[float, Field(gt=0)] = 15.0
    repository_settle_s: Annotated[float, Field(ge=0)] = 2.0
    host: str = "127.0.0.1"
    grpc_port: Port = 8001
    http_port: Port = 8000
    cors_origins: list[str] = Field(
        default=[],
        description="Origins whose pages may call the HTTP port, such as https://example.com; "
        "* is every one.",
    )
    max_receive_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    max_concurrent_streams: Annotated[int, Field(ge=1)] = 1024
    worker_thread_count: Annotated[int, Field(ge=0)] = 0
    worker_hang_limit_s: Annotated[float, Field(ge=0)] = 600.0
    drain_delay_s: Annotated[float, Field(ge=0)] = 0.0
    exit_timeout_s: Annotated[float, Field(ge=0)] = 30.0
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags before variables before the file."""
        del dotenv_settings, file_secret_settings
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    def threads_per_worker(self, worker_count: int) -> int:
        """Threads that each worker computes with; 0 in the settings means an equal share."""
        if self.worker_thread_count:
            return self.worker_thread_count
        return max(1, (os.cpu_count() or 1) // max(1, worker_count))


class ConfigError(ValueError):
    """Settings that cannot be used; each line of `problems` names one and says why."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def load_config(
    flags: Mapping[str, Any], *, file: Path | None, environment: Mapping[str, str]
) -> ServerConfig:
    """Settings from flags that were given (None: not given) and the places behind them.

    `file` wins over `DARKROOM_CONFIG`. Raises ConfigError. The variables themselves are read from
    the process's environment; `environment` is what is searched for unknown names.
    """
    problems = _unknown_variables(environment)
    if problems:
        raise ConfigError(problems)
    named = file or (Path(environment[CONFIG_VARIABLE]) if CONFIG_VARIABLE in environment else None)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        if named is not None:
            named.open().close()  # pydantic-settings skips a file that is not there
        return _reading(named)(**given)
    except ValidationError as error:
        raise ConfigError([_problem(found) for found in error.errors()]) from None
    except OSError as error:
        raise ConfigError([f"{named}: {error.strerror}"]) from None
    except ValueError as error:
        # The file is no TOML, or not even text.
        raise ConfigError([f"{named}: {error}"]) from None


def _reading(file: Path | None) -> type[ServerConfig]:
    """ServerConfig with the file as one of its sources."""

    class FromFile(ServerConfig):
        model_config = SettingsConfigDict(toml_file=file)

    return FromFile


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = {f"{_PREFIX}{name.upper()}" for name in ServerConfig.model_fields}
    known |= {CONFIG_VARIABLE, *_CLIENT_VARIABLES}
    unknown = sorted(n for n in environment if n.startswith(_PREFIX) and n not in known)
    return [f"{name}: unknown variable{_did_you_mean(name, known)}" for name in unknown]


def _problem(found: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"{name}: unknown setting{_did_you_mean(name, set(ServerConfig.model_fields))}"
    return f"{name}: {found['msg']}"


def _did_you_mean(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
