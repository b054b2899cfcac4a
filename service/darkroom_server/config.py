"""The server's settings: flags, then `DARKROOM_…` variables, then a TOML file, then defaults."""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from darkroom_server.access.gate import GateOptions
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.repository.remote_store import is_url
from darkroom_server.rpc.settings import ConnectionSettings
from darkroom_server.scale_out.options import ScaleOutOptions
from darkroom_server.telemetry.logs import LOG_FORMAT_VARIABLE, LOG_LEVEL_VARIABLE
from darkroom_server.telemetry.settings import TelemetrySettings
from darkroom_server.wire.tls import TlsFiles

CONFIG_VARIABLE = "DARKROOM_CONFIG"
_PREFIX = "DARKROOM_"
#: Variables with the prefix that are not the server's.
_CLIENT_VARIABLES = ("DARKROOM_SERVER", "DARKROOM_API_KEY", "DARKROOM_TLS_CA")


def _redis_url(text: str) -> str:
    if text != "memory" and not text.startswith(("redis://", "rediss://")):
        raise ValueError("give memory, redis://HOST:PORT/DATABASE or rediss://…")
    return text


def _web_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("give http://HOST or https://HOST, with a path where there is one")
    return text.rstrip("/") + "/"


Port = Annotated[int, Field(ge=0, le=65535)]


class ServerConfig(ConnectionSettings, TelemetrySettings):
    """Settings of `darkroom serve`. Unknown keys are refused."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", extra="forbid", frozen=True, protected_namespaces=()
    )

    model_repository: str = Field(
        default="model_repo",
        description="Folder of the models, or a URL: s3://, gs://, …",
    )
    repository_cache: Path = Field(
        default=Path("~/.cache/darkroom"),
        description="Folder for the local copy of a remote repository.",
    )
    repository_cache_bytes: Annotated[int, Field(ge=1)] = Field(
        default=200_000_000_000,
        description="Maximum size of that copy in bytes.",
    )
    aliases: dict[str, str] = Field(
        default={},
        description="Another name for a model, for clients with fixed names; may be repeated.",
    )
    default_model: str = Field(
        default="",
        description="Model of requests that name none; unset: the first by name.",
    )
    model_control: Literal["none", "poll", "explicit"] = Field(
        default="none",
        description="none: load what the repository holds at startup; poll: also scan it for "
        "changes; explicit: load only what --load-model and `darkroom models load` "
        "request.",
    )
    load_models: list[str] = Field(
        default=[],
        description="With explicit: a model to load at startup, '*' for all; may be repeated.",
    )
    state_file: Path | None = Field(
        default=None,
        description="Saves loads and labels that were requested, for the next start.",
    )
    memory_check: bool = Field(
        default=True,
        description="Refuse loads that do not fit into memory.",
    )
    repository_poll_s: Annotated[float, Field(gt=0)] = Field(
        default=15.0,
        description="Seconds between two scans of the repository.",
    )
    repository_settle_s: Annotated[float, Field(ge=0)] = Field(
        default=2.0,
        description="Seconds without changes before files that have no manifest are loaded.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    grpc_port: Port = Field(default=8001, description="Port for gRPC; 0 picks one.")
    http_port: Port = Field(default=8000, description="Port for HTTP; 0 picks one.")
    cors_origins: list[str] = Field(
        default=[],
        description="Origins that may call the HTTP port from a browser (CORS), such as "
        "https://example.com; * allows all.",
    )
    allowed_hosts: list[str] = Field(
        default=[],
        description="Host names accepted over HTTP by a server without keys, besides this "
        "machine's own; if unset, a server that listens beyond loopback accepts any.",
    )
    max_http_connections: Annotated[int, Field(ge=1)] = Field(
        default=4096,
        description="Maximum HTTP connections, at most half of the process's limit of open files."
        " Beyond it, idle connections are closed.",
    )
    public_url: Annotated[str, AfterValidator(_web_url)] | None = Field(
        default=None,
        description="Public base URL of the HTTP port, such as https://example.com/images, for "
        "links to images. Unset: the URL that the caller used.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of API keys; see `darkroom keys`. Unset: no authentication.",
    )
    limits_storage: Annotated[str, AfterValidator(_redis_url)] = Field(
        default="memory", description="Store for rate limits and credits: memory or redis://…"
    )
    reflection_needs_key: bool = Field(
        default=False,
        description="Require a key for server reflection, too.",
    )
    tls_certificate: Path | None = Field(
        default=None,
        description="PEM file of the certificate, for both ports.",
    )
    tls_key: Path | None = Field(
        default=None,
        description="PEM file of the certificate's key.",
    )
    tls_client_ca: Path | None = Field(
        default=None,
        description="CA for client certificates, which gRPC clients must then present.",
    )
    insecure: bool = Field(
        default=False,
        description="Listen beyond loopback without keys or TLS.",
    )
    max_receive_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        default=64 << 20,
        description="Maximum size of a request in bytes.",
    )
    max_concurrent_streams: Annotated[int, Field(ge=1)] = Field(
        default=16384,
        description="Maximum concurrent calls on one connection.",
    )
    receive_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0,
        description="Time-out for receiving a gRPC request, in seconds.",
    )
    unread_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0,
        description="Time-out for a gRPC caller that does not read, in seconds.",
    )
    undelivered_bytes: Annotated[int, Field(ge=1 << 20)] = Field(
        default=512 << 20,
        description="Maximum bytes of results that callers have not read yet; one call may take "
        "half.",
    )
    worker_thread_count: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Threads of each worker; 0: an equal share.",
    )
    #: Of SDXL a text takes 0.6 MiB in FP32, of FLUX with 512 tokens 8 MiB.
    prompt_cache_bytes: Annotated[int, Field(ge=0)] = Field(
        default=256 << 20,
        description="Size of a worker's cache of prompt embeddings in bytes; 0: no cache.",
    )
    checkpoint_bytes: Annotated[int, Field(ge=0)] = Field(
        default=256 << 20,
        description="Most that a worker's pictures on their way take where they are kept every "
        "three steps, to go on from there if it dies; 0: they start again.",
    )
    worker_hang_limit_s: Annotated[float, Field(ge=0)] = Field(
        default=600.0,
        description="Hang time-out in seconds: a busy worker without a report for this time is "
        "restarted; three times as long while it loads; 0: never.",
    )
    on: Literal["machine", "ray"] = Field(
        default="machine", description="machine: workers of this machine; ray: replicas on Ray."
    )
    ray_address: str = Field(
        default="local",
        description="With ray: the cluster's address; auto: this machine's cluster; local: start "
        "a new one.",
    )
    min_replicas: Annotated[int, Field(ge=0)] = Field(
        default=1, description="With ray and --max-replicas: replicas kept when idle."
    )
    max_replicas: Annotated[int, Field(ge=0)] = Field(
        default=0, description="With ray: maximum replicas; 0: the number of the instance groups."
    )
    replica_wait_s: Annotated[float, Field(gt=0)] = Field(
        default=10.0,
        description="On Ray, with max_replicas: seconds of queued device work per replica; the "
        "target for scaling.",
    )
    replica_shrink_delay_s: Annotated[float, Field(ge=0)] = Field(
        default=300.0,
        description="On Ray, with max_replicas: delay before scaling down, in seconds.",
    )
    replica_cpus: Annotated[float, Field(ge=0)] = Field(
        default=1.0, description="On Ray: CPUs reserved for a replica."
    )
    replica_drain_s: Annotated[float, Field(ge=0)] = Field(
        default=60.0,
        description="On Ray: seconds that a replica gets to finish its requests before it is "
        "stopped; what is left runs again on another.",
    )
    drain_delay_s: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="Seconds after SIGTERM in which the server reports not ready and still "
        "accepts requests.",
    )
    exit_timeout_s: Annotated[float, Field(ge=0)] = Field(
        default=30.0,
        description="Seconds that running requests then get to finish.",
    )
    metrics_compat: Literal["none", "triton"] = Field(
        default="none", description="triton: /metrics also has Triton's nv_inference_* names."
    )

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

    @model_validator(mode="after")
    def _loads_are_explicit(self) -> Self:
        if self.load_models and self.model_control != "explicit":
            raise ValueError("load_models is for model_control explicit")
        return self

    @model_validator(mode="after")
    def _replicas_are_rays(self) -> Self:
        if self.max_replicas and self.max_replicas < max(1, self.min_replicas):
            raise ValueError("max_replicas is less than min_replicas")
        if self.on != "ray" and (self.max_replicas or self.ray_address != "local"):
            raise ValueError("ray_address and max_replicas are for on ray")
        return self

    @property
    def location(self) -> Path | RemoteLocation:
        """Where the models are."""
        if is_url(self.model_repository):
            return RemoteLocation(
                self.model_repository, self.repository_cache, self.repository_cache_bytes
            )
        return Path(self.model_repository)

    def threads_per_worker(self, worker_count: int) -> int:
        """Threads that each worker computes with; 0 in the settings means an equal share."""
        if self.worker_thread_count:
            return self.worker_thread_count
        return max(1, (os.cpu_count() or 1) // max(1, worker_count))

    def scale_out_options(self) -> ScaleOutOptions:
        """How models are spread over a Ray cluster; its processes log as this one does."""
        return ScaleOutOptions(
            address=self.ray_address,
            min_replica_count=self.min_replicas,
            max_replica_count=self.max_replicas,
            wait_s=self.replica_wait_s,
            shrink_delay_s=self.replica_shrink_delay_s,
            cpu_count=self.replica_cpus,
            drain_s=self.replica_drain_s,
            environment={
                LOG_FORMAT_VARIABLE: self.log_format,
                LOG_LEVEL_VARIABLE: self.log_level,
            },
        )

    def gate_options(self) -> GateOptions:
        """Which callers are let in, and where their use is counted."""
        return GateOptions(
            keys_file=self.keys_file,
            redis_url=None if self.limits_storage == "memory" else self.limits_storage,
            reflection_needs_key=self.reflection_needs_key,
        )

    def tls_files(self) -> TlsFiles | None:
        """The certificates, None without; raises ConfigError where only some are given."""
        certificate, key = self.tls_certificate, self.tls_key
        if certificate is not None and key is not None:
            return TlsFiles(certificate, key, self.tls_client_ca)
        if certificate is not None or key is not None:
            raise ConfigError(["tls_certificate and tls_key go together; give both"])
        if self.tls_client_ca is not None:
            raise ConfigError(["tls_client_ca needs tls_certificate and tls_key"])
        return None

    @property
    def is_beyond_loopback(self) -> bool:
        """Whether other machines may reach the ports."""
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    def check_exposure(self) -> None:
        """Raises ConfigError where strangers would be served unasked and unencrypted."""
        is_guarded = self.keys_file is not None or self.tls_certificate is not None
        if self.is_beyond_loopback and not is_guarded and not self.insecure:
            raise ConfigError(
                [
                    f"host {self.host} can be reached from other machines, and there are neither "
                    "keys nor TLS: make a key with `darkroom keys create NAME` and give "
                    "--keys-file keys.toml, give --tls-certificate and --tls-key, or say "
                    "--insecure where something in front of the server guards it"
                ]
            )


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
    name = ".".join(str(part) for part in found["loc"]) or "settings"
    if found["type"] == "extra_forbidden":
        return f"{name}: unknown setting{_did_you_mean(name, set(ServerConfig.model_fields))}"
    return f"{name}: {found['msg']}"


def _did_you_mean(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
