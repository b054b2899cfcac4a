"""The server's settings: flags, then `DARKROOM_…` variables, then a TOML file, then defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "DARKROOM_CONFIG"

Port = Annotated[int, Field(ge=0, le=65535)]


class ServerConfig(BaseSettings):
    """Settings of `darkroom serve`. Unknown keys are refused."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", extra="forbid", frozen=True, protected_namespaces=()
    )

    model_repository: Path = Path("model_repo")
    host: str = "127.0.0.1"
    grpc_port: Port = 8001
    http_port: Port = 8000
    max_receive_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    max_concurrent_streams: Annotated[int, Field(ge=1)] = 1000
    worker_thread_count: Annotated[int, Field(ge=0)] = 0
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
        """Flags before variables before the file that `DARKROOM_CONFIG` names."""
        del dotenv_settings, file_secret_settings
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if path := os.environ.get(CONFIG_VARIABLE):
            sources += (TomlConfigSettingsSource(settings_cls, toml_file=path),)
        return sources

    def threads_per_worker(self, worker_count: int) -> int:
        """Threads that each worker computes with; 0 in the settings means an equal share."""
        if self.worker_thread_count:
            return self.worker_thread_count
        return max(1, (os.cpu_count() or 1) // max(1, worker_count))


def load_config(flags: dict[str, Any], *, file: Path | None) -> ServerConfig:
    """Settings from flags that were given (None: not given) and the places behind them.

    Raises pydantic.ValidationError, or OSError for a file that cannot be read.
    """
    if file is not None:
        file.open().close()  # a missing file would be skipped silently
        os.environ[CONFIG_VARIABLE] = str(file)
    return ServerConfig(**{name: value for name, value in flags.items() if value is not None})
