"""Composition root: the only module that knows every concrete class. Runs the server."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import uvloop

from darkroom_server.access.gate import Gate
from darkroom_server.background import keep_going, log_what_is_left
from darkroom_server.config import ConfigError, ServerConfig
from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.heap import keep_trimmed
from darkroom_server.engine.memory import SystemMemory
from darkroom_server.engine.model_control import ControlOptions
from darkroom_server.engine.open_files import raise_open_files_limit
from darkroom_server.engine.supervisor import SlotMaker
from darkroom_server.gateway.connect import Servicers
from darkroom_server.gateway.server import HttpOptions, HttpServer, build_http_server
from darkroom_server.image_decoding.picture_processes import PictureProcesses, Pictures
from darkroom_server.rpc.admin import AdminServer
from darkroom_server.rpc.server import GrpcOptions, GrpcServer, build_server, servicers
from darkroom_server.scale_out.replicas import ClusterLost
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.telemetry.trace_export import TracesUnavailable, export_traces
from darkroom_server.wire.kserve.statistics import TritonMetrics
from darkroom_server.wire.tls import Certificates

if TYPE_CHECKING:
    # Ray is an extra: it is imported where it is asked for.
    from darkroom_server.scale_out.cluster import Cluster

log = structlog.get_logger(__name__)

#: How often it is looked whether all models serve, before they do.
_READY_LOOK_S = 0.2


def run(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT; returns when every call has its status.

    SIGHUP reads keys and certificates again. Blocking. Raises ConfigError for settings that
    contradict each other or what is installed, OSError for ports and files.
    """
    stop_traces = _traces(config)
    try:
        uvloop.run(serve(config))
    finally:
        stop_traces()


def _traces(config: ServerConfig) -> Callable[[], None]:
    """Begins to send traces where that is asked for; raises ConfigError."""
    if config.otlp_endpoint is None:
        return lambda: None
    try:
        return export_traces(config.otlp_endpoint, share=config.trace_share)
    except TracesUnavailable as error:
        raise ConfigError([str(error)]) from None


async def serve(config: ServerConfig) -> None:
    """Opens the ports, loads the models, waits for a signal, drains, stops; raises as `run`."""
    files = config.tls_files()
    tls = None if files is None else Certificates(files)
    open_files_count = raise_open_files_limit()
    metrics = Metrics()
    gate = Gate(config.gate_options())
    cluster = await _cluster(config)
    engine = _engine(config, cluster, metrics)
    signals: asyncio.Queue[int] = asyncio.Queue()
    _listen_to_signals(signals, _Reloads(gate, tls))
    pictures = PictureProcesses()
    server = build_server(engine, _grpc_options(config, tls, pictures), metrics, gate)
    http_server = build_http_server(
        engine,
        _http_options(config, server.port, tls, pictures, open_files_count),
        metrics,
        gate,
        Servicers(*servicers(engine, pictures)),
    )
    _warn_of_exposure(config)
    pictures.start()
    gate.start()
    await server.start()
    admin = await _administration(engine, config)
    http_server.start()
    # Imported modules stay in memory: for the collector to scan them stops every request for 50 ms.
    gc.collect()
    gc.freeze()
    log.info("listening", host=config.host, grpc_port=server.port, http_port=http_server.port)
    loading = asyncio.create_task(engine.start())
    readiness = asyncio.create_task(_log_when_ready(engine, config, http_server.port, server.port))
    beside = [loading, readiness, *_watches(tls)]
    try:
        # A repository that cannot be read ends the server; nothing else does but a signal.
        stopped = asyncio.create_task(signals.get())
        await asyncio.wait({loading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
        await stopped
        await _drain(engine, config, signals)
    finally:
        engine.begin_drain()
        for task in beside:
            task.cancel()
        await _close(server, http_server, admin)
        await _stop(engine, cluster)
        await gate.stop()
        pictures.close()
        log.info("stopped")


def _watches(tls: Certificates | None) -> list[asyncio.Task[None]]:
    """What goes on for as long as the server does."""
    trimming = asyncio.create_task(keep_trimmed())
    if tls is None:
        return [trimming]
    return [trimming, keep_going("watch over certificates", tls.watch)]


async def _administration(engine: Engine, config: ServerConfig) -> AdminServer | None:
    """Opens the port for looking into the server, where there is to be one."""
    if config.admin_port is None:
        return None
    admin = AdminServer(engine, config.admin_port)
    await admin.start()
    log.info("administration", grpc_port=admin.port)
    return admin


async def _close(server: GrpcServer, http_server: HttpServer, admin: AdminServer | None) -> None:
    """Ends the calls that still run, and closes the ports."""
    await server.stop(grace_s=1.0)
    await http_server.stop()
    if admin is not None:
        await admin.stop()


async def _log_when_ready(
    engine: Engine, config: ServerConfig, http_port: int, grpc_port: int
) -> None:
    """One line for people, once every model that should serve does: where the page is."""
    while not engine.is_ready():
        await asyncio.sleep(_READY_LOOK_S)
    scheme = "http" if config.tls_certificate is None else "https"
    # What listens everywhere is not called by that name.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    host = f"[{host}]" if ":" in host else host
    log.info(
        "ready",
        page=config.public_url or f"{scheme}://{host}:{http_port}/",
        grpc=f"{host}:{grpc_port}",
    )


def _listen_to_signals(signals: asyncio.Queue[int], reloads: _Reloads) -> None:
    loop = asyncio.get_running_loop()
    log_what_is_left(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number)
    loop.add_signal_handler(signal.SIGHUP, reloads.begin)


class _Reloads:
    """What SIGHUP does: keys and certificates are read again, and no connection ends."""

    def __init__(self, gate: Gate, tls: Certificates | None) -> None:
        self._gate = gate
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Reads them, one after the other, off the loop."""
        task = asyncio.create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        log.info("reading keys and certificates again")
        await asyncio.to_thread(self._gate.refresh_keys)
        if self._tls is not None:
            await asyncio.to_thread(self._tls.reload)


async def _drain(engine: Engine, config: ServerConfig, signals: asyncio.Queue[int]) -> None:
    """Serves on for `drain_delay_s`, then finishes what runs; a second signal cuts both short."""
    log.info("draining", requests_may_take_s=config.exit_timeout_s)
    hurry = asyncio.create_task(signals.get())
    engine.announce_drain()
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(hurry), config.drain_delay_s)
    engine.begin_drain()
    finish = asyncio.create_task(engine.finish_drain(config.exit_timeout_s))
    await asyncio.wait({finish, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not finish.done():
        finish.cancel()
        await engine.finish_drain(0.0)
    hurry.cancel()


def _warn_of_exposure(config: ServerConfig) -> None:
    """Says what is missing where other machines may call."""
    if not config.is_beyond_loopback:
        return
    if config.keys_file is None:
        log.warning("no keys: every caller that reaches the ports is served", host=config.host)
    if config.tls_certificate is None:
        log.warning("no TLS: keys and pictures can be read on the way", host=config.host)


async def _stop(engine: Engine, cluster: Cluster | None) -> None:
    """Ends the workers; replicas only with a cluster that is the server's own."""
    if cluster is not None:
        cluster.is_leaving = not cluster.is_own
    await engine.stop()
    if cluster is not None:
        await asyncio.to_thread(cluster.close)


async def _cluster(config: ServerConfig) -> Cluster | None:
    """The cluster that models run on, unless that is this machine; raises ConfigError."""
    if config.on != "ray":
        return None
    try:
        from darkroom_server.scale_out.cluster import Cluster
    except ModuleNotFoundError as error:
        raise ConfigError([f"on ray needs {error.name}: install darkroom-server[ray]"]) from None
    cluster = Cluster(config.scale_out_options())
    try:
        await asyncio.to_thread(cluster.connect)
    except ClusterLost as error:
        hint = " (on a busy machine Ray gives up too soon: try again)" if cluster.is_own else ""
        problem = f"no Ray cluster at {config.ray_address}: {error}{hint}"
        raise ConfigError([problem]) from None
    return cluster


def _slots(config: ServerConfig, cluster: Cluster | None) -> SlotMaker | None:
    """What runs jobs where that is not this machine."""
    if cluster is None:
        return None
    from darkroom_server.scale_out.slots import slot_maker

    return slot_maker(
        cluster,
        location=config.location,
        threads_per_worker=config.threads_per_worker,
        prompt_cache_bytes=config.prompt_cache_bytes,
        hang_limit_s=config.worker_hang_limit_s,
        memory_check=config.memory_check,
    )


def _engine(config: ServerConfig, cluster: Cluster | None, metrics: Metrics) -> Engine:
    engine = Engine(_engine_options(config, cluster), metrics)
    if config.metrics_compat == "triton":
        metrics.add_collector(TritonMetrics(engine))
    return engine


def _engine_options(config: ServerConfig, cluster: Cluster | None) -> EngineOptions:
    slots = _slots(config, cluster)
    is_probed = config.memory_check and slots is None
    return EngineOptions(
        make_slots=slots,
        model_repository=config.location,
        threads_per_worker=config.threads_per_worker,
        prompt_cache_bytes=config.prompt_cache_bytes,
        checkpoint_bytes=config.checkpoint_bytes,
        hang_limit_s=config.worker_hang_limit_s,
        aliases=config.aliases,
        default_model=config.default_model,
        memory=SystemMemory() if is_probed else None,
        undelivered_bytes=config.undelivered_bytes,
        control=ControlOptions(
            is_explicit=config.model_control == "explicit",
            load_models=tuple(config.load_models),
            state_file=config.state_file,
            poll_s=config.repository_poll_s if config.model_control == "poll" else 0.0,
            settle_s=config.repository_settle_s,
        ),
    )


def _http_options(
    config: ServerConfig,
    grpc_port: int,
    tls: Certificates | None,
    pictures: Pictures,
    open_files_count: int,
) -> HttpOptions:
    return HttpOptions(
        host=config.host,
        port=config.http_port,
        grpc_port=grpc_port,
        cors_origins=tuple(config.cors_origins),
        allowed_hosts=tuple(config.allowed_hosts),
        # The other half is for gRPC, the workers and files.
        max_connection_count=min(config.max_http_connections, open_files_count // 2),
        tls=tls,
        public_url=config.public_url,
        pictures=pictures,
    )


def _grpc_options(
    config: ServerConfig, tls: Certificates | None, pictures: Pictures
) -> GrpcOptions:
    return GrpcOptions(
        pictures=pictures,
        tls=tls,
        host=config.host,
        port=config.grpc_port,
        max_receive_message_bytes=config.max_receive_bytes,
        max_concurrent_streams=config.max_concurrent_streams,
        receive_timeout_s=config.receive_timeout_s,
        unread_timeout_s=config.unread_timeout_s,
        keepalive_time_s=config.keepalive_time_s,
        keepalive_timeout_s=config.keepalive_timeout_s,
        idle_timeout_s=config.connection_idle_s,
        max_age_s=config.connection_age_s,
        age_grace_s=config.connection_age_grace_s,
        is_watched=config.admin_port is not None,
    )
