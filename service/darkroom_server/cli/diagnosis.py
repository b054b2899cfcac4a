"""The checks of `darkroom doctor`: each gives findings, with a remedy where one is needed."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import darkroom_server
from darkroom_server.access.keys_file import KeysFileError, read_keys
from darkroom_server.cli.findings import Finding, Health
from darkroom_server.cli.settings_checks import (
    check_limits_storage,
    check_model_names,
    check_state_file,
    check_traces,
)
from darkroom_server.config import ConfigError, ServerConfig
from darkroom_server.devices import kinds
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.wire.certificate_dates import NotGood, expiry_s
from darkroom_server.wire.tls import TlsError

#: Versions that a report of a fault should have.
PACKAGES = ("darkroom-server", "grpcio", "protobuf", "torch", "diffusers", "transformers")
#: Fewer open files than this are soon used up by connections.
MIN_OPEN_FILES = 4096
#: A certificate that ends sooner is warned of.
SOON_S = 14 * 24 * 3600.0


def diagnose(settings: ServerConfig) -> list[Finding]:
    """Everything, in the order in which a server needs it."""
    looks: tuple[Callable[[ServerConfig], list[Finding]], ...] = (
        _versions,
        _clock,
        _exposure,
        _ports,
        _certificates,
        _keys,
        check_limits_storage,
        _repository,
        check_model_names,
        check_state_file,
        check_traces,
        _devices,
        _memory,
        _open_files,
    )
    return [finding for look in looks for finding in look(settings)]


def _versions(_: ServerConfig) -> list[Finding]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    findings = [Finding("versions", Health.OK, ", ".join(found))]
    if missing:
        remedy = "install them with the versions of constraints.txt (docs/install.md)"
        text = f"not installed: {', '.join(missing)}"
        findings.append(Finding("versions", Health.FAILED, text, remedy))
    return findings


def _clock(_: ServerConfig) -> list[Finding]:
    installed_s = Path(darkroom_server.__path__[0]).stat().st_mtime
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if time.time() < installed_s:
        remedy = "set the clock: certificates and limits by time go wrong (timedatectl set-ntp on)"
        return [Finding("clock", Health.FAILED, f"{now} is before the installation", remedy)]
    return [Finding("clock", Health.OK, now)]


def _exposure(settings: ServerConfig) -> list[Finding]:
    try:
        settings.check_exposure()
    except ConfigError as error:
        return [Finding("exposure", Health.FAILED, problem) for problem in error.problems]
    whom = "other machines" if settings.is_beyond_loopback else "this machine alone"
    return [Finding("exposure", Health.OK, f"{settings.host} is reached from {whom}")]


def _ports(settings: ServerConfig) -> list[Finding]:
    return [
        _port(what, host, port)
        for what, host, port in (
            ("gRPC", settings.host, settings.grpc_port),
            ("HTTP", settings.host, settings.http_port),
            ("admin", "127.0.0.1", settings.admin_port),
        )
        if port is not None
    ]


def _port(what: str, host: str, port: int) -> Finding:
    try:
        with socket.create_server((host, port), family=_family(host)):
            return Finding(f"port, {what}", Health.OK, f"{port} is free")
    except OSError as error:
        text = f"{host} {port}: {error.strerror or error}"
        remedy = f"end what listens there (ss -ltnp), or choose another: --{what.lower()}-port"
        return Finding(f"port, {what}", Health.FAILED, text, remedy)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _certificates(settings: ServerConfig) -> list[Finding]:
    remedy = "put a new one in its place, which a server that runs reads without a restart"
    try:
        files = settings.tls_files()
        if files is None:
            return []
        files.check()
        left_s = expiry_s(files.certificate, files.key) - time.time()
    except NotGood as error:
        return [Finding("certificates", Health.FAILED, str(error), remedy)]
    except (ConfigError, TlsError) as error:
        give = "give what it should be, in PEM: --tls-certificate, --tls-key, --tls-client-ca"
        return [Finding("certificates", Health.FAILED, str(error), give)]
    days = f"{left_s / 86400:.0f} days"
    if left_s < SOON_S:
        return [Finding("certificates", Health.WARNING, f"ends in {days}", remedy)]
    return [Finding("certificates", Health.OK, f"good for {days}")]


def _keys(settings: ServerConfig) -> list[Finding]:
    if settings.keys_file is None:
        return []
    try:
        count = len(read_keys(settings.keys_file))
    except (KeysFileError, OSError) as error:
        remedy = "`darkroom keys create NAME` makes one"
        return [Finding("keys", Health.FAILED, str(error), remedy)]
    if not count:
        remedy = "`darkroom keys create NAME` makes one"
        return [Finding("keys", Health.WARNING, "there is no key: nobody comes in", remedy)]
    return [Finding("keys", Health.OK, f"{count} in {settings.keys_file}")]


def _repository(settings: ServerConfig) -> list[Finding]:
    location = settings.location
    if not isinstance(location, Path):
        return [Finding("repository", Health.OK, f"{location.url}, which a server follows")]
    if not location.is_dir():
        remedy = "name the folder of the models: --model-repository"
        return [Finding("repository", Health.FAILED, f"no folder {location}", remedy)]
    scan = ModelRepository(location, settings.aliases).scan()
    names = ", ".join(model.info.name for model in scan.models) or "no model"
    if scan.has_errors or not scan.models:
        remedy = f"`darkroom check-repo {location}` says what is wrong"
        health = Health.WARNING if scan.models else Health.FAILED
        return [Finding("repository", health, f"can be served: {names}", remedy)]
    return [Finding("repository", Health.OK, names)]


def _devices(_: ServerConfig) -> list[Finding]:
    processors = f"{os.cpu_count()} processors"
    kind = kinds.of_this_machine()
    if kind is None:
        remedy = "with a GPU in the machine, install its driver; without, this is as it is"
        return [Finding("devices", Health.WARNING, f"{processors}, no GPU", remedy)]
    gpus = [
        f"{kind.driver_device_name(index)}, {(kind.free_bytes(index) or 0) >> 20} MiB"
        for index in range(kind.driver_device_count())
    ]
    return [Finding("devices", Health.OK, "; ".join([processors, *gpus]))]


def _memory(settings: ServerConfig) -> list[Finding]:
    free_bytes = psutil.virtual_memory().available
    text = f"{free_bytes >> 20} MiB are free"
    location = settings.location
    if not isinstance(location, Path) or not location.is_dir():
        return [Finding("memory", Health.OK, text)]
    needed_bytes = sum(
        version.weight_bytes
        for model in ModelRepository(location).scan().models
        for version in model.versions
        if version.version in model.serving
        and all(one.gpu is None for one in version.model.placements)
    )
    text += f", weights for processors take {needed_bytes >> 20} MiB"
    if needed_bytes > free_bytes:
        remedy = "load fewer (--model-control explicit), or in fewer bits (docs/memory.md)"
        return [Finding("memory", Health.WARNING, text, remedy)]
    return [Finding("memory", Health.OK, text)]


def _open_files(settings: ServerConfig) -> list[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    text = f"up to {count} may be open"
    if count < max(MIN_OPEN_FILES, 2 * settings.max_http_connections):
        remedy = "raise the limit: LimitNOFILE= in systemd's unit, ulimit -Hn in a shell"
        return [Finding("open files", Health.WARNING, text, remedy)]
    return [Finding("open files", Health.OK, text)]
