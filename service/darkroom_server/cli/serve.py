"""`darkroom serve`: runs the server in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from darkroom_server.access.keys_file import KeysFileError
from darkroom_server.access.ledger import LedgerError
from darkroom_server.app import run
from darkroom_server.cli.exits import file_problem
from darkroom_server.config import CONFIG_VARIABLE, ConfigError, ServerConfig, load_config
from darkroom_server.models.remote_repository import RemoteLocation
from darkroom_server.models.remote_store import RemoteError, RemoteStore
from darkroom_server.telemetry.logs import (
    LOG_FORMAT_VARIABLE,
    LOG_LEVEL_VARIABLE,
    configure_logs,
)
from darkroom_server.wire.tls import TlsError

_DEFAULTS = {name: field.default for name, field in ServerConfig.model_fields.items()}


def _help(text: str, name: str) -> str:
    return f"{text} [default: {_DEFAULTS[name]}; also DARKROOM_{name.upper()}]"


def _settings(flags: dict[str, Any], config: Path | None) -> ServerConfig:
    """What the server is to run with; says in one line what is wrong and leaves."""
    try:
        settings = load_config(flags, file=config, environment=os.environ)
        settings.check_exposure()
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(f"darkroom serve: {problem}", err=True)
        raise typer.Exit(2) from None
    problem = _problem_of(settings.location)
    if problem:
        typer.echo(f"darkroom serve: {problem}; name one with --model-repository", err=True)
        raise typer.Exit(2)
    if settings.state_file is not None and not settings.state_file.parent.is_dir():
        typer.echo(
            f"darkroom serve: no folder {settings.state_file.parent} for the state file", err=True
        )
        raise typer.Exit(2)
    return settings


def _problem_of(location: Path | RemoteLocation) -> str:
    """Why there can be no repository there; of a store that is away, the log tells later."""
    if isinstance(location, Path):
        return "" if location.is_dir() else f"no model repository at {location}"
    try:
        RemoteStore(location.url)
    except RemoteError as error:
        return str(error)
    return ""


def _aliases(given: list[str] | None) -> dict[str, str] | None:
    """NAME=MODEL pairs as a mapping; None where the flag was not given."""
    if not given:
        return None
    pairs = [one.partition("=") for one in given]
    for alias, _, model in pairs:
        if not alias or not model:
            raise typer.BadParameter("is NAME=MODEL", param_hint="--alias")
    return {alias: model for alias, _, model in pairs}


def serve(
    model_repository: Annotated[
        str | None,
        typer.Option(
            help=_help("Folder of the models, or a URL: s3://, gs://, …", "model_repository")
        ),
    ] = None,
    repository_cache: Annotated[
        Path | None,
        typer.Option(help=_help("Where the copy of a URL's models is kept.", "repository_cache")),
    ] = None,
    repository_cache_bytes: Annotated[
        int | None,
        typer.Option(help=_help("Most that the copy may take.", "repository_cache_bytes")),
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MODEL",
            help="Another name for a model, for clients that insist on one; may be repeated. "
            "[also DARKROOM_ALIASES, as JSON]",
        ),
    ] = None,
    model_control: Annotated[
        str | None,
        typer.Option(
            help=_help(
                "none: what the repository holds at start; poll: it is looked at again and again; "
                "explicit: what is asked for by --load-model and `darkroom models load`.",
                "model_control",
            )
        ),
    ] = None,
    load_model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="With explicit: a model to load at the start, '*' for all; may be repeated. "
            "[also DARKROOM_LOAD_MODELS, as JSON]",
        ),
    ] = None,
    state_file: Annotated[
        Path | None,
        typer.Option(
            help="Keeps what is loaded and labelled on request for the next start. "
            "[also DARKROOM_STATE_FILE]"
        ),
    ] = None,
    memory_check: Annotated[
        bool | None,
        typer.Option(help=_help("Load only what fits into memory.", "memory_check")),
    ] = None,
    repository_poll: Annotated[
        float | None,
        typer.Option(help=_help("Seconds between two looks.", "repository_poll_s")),
    ] = None,
    repository_settle: Annotated[
        float | None,
        typer.Option(
            help=_help(
                "Seconds that files without a manifest must have stood still.",
                "repository_settle_s",
            )
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help=_help("Address to listen on.", "host"))] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help=_help("Port for gRPC; 0 picks one.", "grpc_port"))
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help=_help("Port for HTTP; 0 picks one.", "http_port"))
    ] = None,
    keys_file: Annotated[
        Path | None,
        typer.Option(
            help=_help("File of API keys; see `darkroom keys`. Without, all come in.", "keys_file")
        ),
    ] = None,
    limits_storage: Annotated[
        str | None,
        typer.Option(
            help=_help(
                "Where limits and credits are counted: memory or redis://…", "limits_storage"
            )
        ),
    ] = None,
    reflection_needs_key: Annotated[
        bool | None,
        typer.Option(
            "--reflection-needs-key",
            help=_help("Ask for a key for reflection too.", "reflection_needs_key"),
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(help=_help("PEM file of the certificate, for both ports.", "tls_certificate")),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help=_help("PEM file of the certificate's key.", "tls_key"))
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help=_help("CA whose certificates gRPC clients must show.", "tls_client_ca")),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure",
            help=_help("Listen beyond loopback without keys or TLS.", "insecure"),
        ),
    ] = None,
    worker_thread_count: Annotated[
        int | None,
        typer.Option(
            help=_help("Threads of each worker; 0: an equal share.", "worker_thread_count")
        ),
    ] = None,
    prompt_cache_bytes: Annotated[
        int | None,
        typer.Option(
            help=_help(
                "Most that prompt embeddings kept by a worker take; 0: none are kept.",
                "prompt_cache_bytes",
            )
        ),
    ] = None,
    worker_hang_limit: Annotated[
        float | None,
        typer.Option(
            help=_help(
                "Seconds of silence with work in hand after which a worker is restarted, and three "
                "times as many while it loads; 0: never.",
                "worker_hang_limit_s",
            )
        ),
    ] = None,
    max_receive_bytes: Annotated[
        int | None, typer.Option(help=_help("Largest request.", "max_receive_bytes"))
    ] = None,
    max_concurrent_streams: Annotated[
        int | None,
        typer.Option(help=_help("Calls at a time on one connection.", "max_concurrent_streams")),
    ] = None,
    receive_timeout: Annotated[
        float | None,
        typer.Option(
            help=_help("Seconds that a request over gRPC may take to arrive.", "receive_timeout_s")
        ),
    ] = None,
    unread_timeout: Annotated[
        float | None,
        typer.Option(
            help=_help("Seconds that a caller over gRPC may read nothing.", "unread_timeout_s")
        ),
    ] = None,
    undelivered_bytes: Annotated[
        int | None,
        typer.Option(
            help=_help(
                "Most that results waiting to be read take, half of it for one call.",
                "undelivered_bytes",
            )
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help=_help("machine: workers of this machine; ray: replicas on Ray.", "on")),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="With ray: the cluster's address; auto: the one that this machine belongs to; "
            "local: one of its own. [default: local; also DARKROOM_RAY_ADDRESS]"
        ),
    ] = None,
    min_replicas: Annotated[
        int | None,
        typer.Option(
            help=_help("With ray and --max-replicas: replicas kept when idle.", "min_replicas")
        ),
    ] = None,
    max_replicas: Annotated[
        int | None,
        typer.Option(
            help=_help("With ray: most replicas; 0: as the instance groups say.", "max_replicas")
        ),
    ] = None,
    drain_delay: Annotated[
        float | None,
        typer.Option(help=_help("Seconds to serve on, not ready, after SIGTERM.", "drain_delay_s")),
    ] = None,
    exit_timeout: Annotated[
        float | None,
        typer.Option(
            help=_help("Seconds that running requests may take after that.", "exit_timeout_s")
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(help=_help("text or json.", "log_format"))
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help=_help("debug, info, warning or error.", "log_level"))
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help=f"TOML file with these settings. [also {CONFIG_VARIABLE}]"),
    ] = None,
) -> None:
    """Serves the models of a repository over gRPC until SIGTERM or Ctrl-C.

    A flag wins over its DARKROOM_ variable, which wins over the file of --config.
    """
    flags = {
        "model_repository": model_repository,
        "repository_cache": repository_cache,
        "repository_cache_bytes": repository_cache_bytes,
        "aliases": _aliases(alias),
        "model_control": model_control,
        "load_models": load_model or None,
        "state_file": state_file,
        "memory_check": memory_check,
        "repository_poll_s": repository_poll,
        "repository_settle_s": repository_settle,
        "host": host,
        "grpc_port": grpc_port,
        "http_port": http_port,
        "keys_file": keys_file,
        "limits_storage": limits_storage,
        "reflection_needs_key": reflection_needs_key,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "insecure": insecure,
        "worker_thread_count": worker_thread_count,
        "prompt_cache_bytes": prompt_cache_bytes,
        "worker_hang_limit_s": worker_hang_limit,
        "max_receive_bytes": max_receive_bytes,
        "max_concurrent_streams": max_concurrent_streams,
        "receive_timeout_s": receive_timeout,
        "unread_timeout_s": unread_timeout,
        "undelivered_bytes": undelivered_bytes,
        "on": on,
        "ray_address": address,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "drain_delay_s": drain_delay,
        "exit_timeout_s": exit_timeout,
        "log_format": log_format,
        "log_level": log_level,
    }
    settings = _settings(flags, config)
    _run(settings)


def _run(settings: ServerConfig) -> None:
    # The workers inherit these.
    os.environ[LOG_FORMAT_VARIABLE] = settings.log_format
    os.environ[LOG_LEVEL_VARIABLE] = settings.log_level
    configure_logs()
    try:
        run(settings)
    except OSError as error:
        typer.echo(f"darkroom serve: {file_problem(error)}", err=True)
        raise typer.Exit(1) from None
    except (ConfigError, KeysFileError, LedgerError, TlsError) as error:
        typer.echo(f"darkroom serve: {error}", err=True)
        raise typer.Exit(2) from None
