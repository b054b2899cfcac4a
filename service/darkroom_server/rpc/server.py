"""The gRPC server: its options, its services, its life."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc
from grpc import aio

from darkroom.v1 import image_service_pb2_grpc, model_service_pb2_grpc
from darkroom_server.access.gate import Gate
from darkroom_server.engine.engine import Engine
from darkroom_server.image_decoding.picture_processes import PictureProcesses, Pictures
from darkroom_server.rpc.health import (
    HEALTH_SERVICE,
    IMAGE_SERVICE,
    MODEL_SERVICE,
    HealthService,
    add_health,
)
from darkroom_server.rpc.images import ImageService
from darkroom_server.rpc.interceptors import CallInterceptor
from darkroom_server.rpc.kserve import INFERENCE_SERVICE, add_inference
from darkroom_server.rpc.load_reports import (
    LOAD_SERVICE,
    LoadReports,
    LoadService,
    add_load_reports,
)
from darkroom_server.rpc.models import ModelService
from darkroom_server.rpc.open_calls import OpenCalls
from darkroom_server.rpc.receiving import Receiving
from darkroom_server.rpc.reflection import add_reflection
from darkroom_server.rpc.sending import Sending
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.wire.tls import Certificates, Pems

#: Calls that may wait to be accepted. gRPC ends those beyond by itself, and no log has them: more
#: than a few connections can have open at a time.
_MAX_PENDING_CALLS = 1 << 16
#: How long they may. Deadlines end them before.
_MAX_PENDING_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcOptions:
    """How the server listens. Port 0 takes any free one."""

    host: str
    port: int
    max_receive_message_bytes: int
    max_concurrent_streams: int
    #: A connection that has been silent this long is pinged, and closed if that goes unanswered.
    keepalive_time_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    pictures: Pictures = field(default_factory=PictureProcesses)
    #: How long a connection may take until HTTP/2 is spoken, and how long it may be without a call.
    handshake_timeout_s: float = 20.0
    idle_timeout_s: float = 600.0
    #: Age at which a connection takes no new calls; open ones may continue for the grace; 0: never.
    max_age_s: float = 0.0
    age_grace_s: float = 600.0
    #: Whether channelz records connections and calls, which takes some memory for each.
    is_watched: bool = False
    #: How long a request may take to arrive, and how long an event of the answer may lie unread.
    receive_timeout_s: float = 60.0
    unread_timeout_s: float = 60.0
    tls: Certificates | None = None


class GrpcServer:
    """A server that is bound to its port. Belongs to the event loop that built it."""

    def __init__(
        self,
        server: aio.Server,
        health: HealthService,
        load: LoadService,
        open_calls: OpenCalls,
        port: int,
    ) -> None:
        self._server = server
        self._health = health
        self._load = load
        self._open_calls = open_calls
        #: The port in use.
        self.port = port

    async def start(self) -> None:
        """Begins to answer."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Answers those that have come, lets those running end, and cancels the rest.

        The engine must turn new ones away by then; `grace_s` is from when no more come.
        """
        self._health.close()
        self._load.close()
        await self._open_calls.settled()
        await self._server.stop(grace_s)


def build_server(engine: Engine, options: GrpcOptions, metrics: Metrics, gate: Gate) -> GrpcServer:
    """A server with every service, bound but not started.

    Must be called on the event loop that will run it. Raises OSError when the port is taken.
    """
    names_peers = options.tls is not None and options.tls.asks_clients
    receiving = Receiving(
        max_message_bytes=options.max_receive_message_bytes, timeout_s=options.receive_timeout_s
    )
    sending = Sending(options.unread_timeout_s)
    reports = LoadReports(engine)
    calls = CallInterceptor(metrics, gate, receiving, sending, reports, names_peers=names_peers)
    server = aio.server(interceptors=(calls,), options=_channel_options(options))
    health = HealthService(engine)
    images, models = servicers(engine, options.pictures)
    image_service_pb2_grpc.add_ImageServiceServicer_to_server(images, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
    add_health(health, server)
    add_inference(engine, options.pictures, server)
    load = LoadService(reports)
    add_load_reports(load, server)
    add_reflection(
        (IMAGE_SERVICE, MODEL_SERVICE, HEALTH_SERVICE, INFERENCE_SERVICE, LOAD_SERVICE), server
    )
    return GrpcServer(server, health, load, calls.open_calls, _bind(server, options))


def servicers(engine: Engine, pictures: Pictures) -> tuple[ImageService, ModelService]:
    """What answers the calls of Darkroom's own services, on whatever transport."""
    return ImageService(engine, pictures), ModelService(engine)


def _bind(server: aio.Server, options: GrpcOptions) -> int:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"{host}:{options.port}"
    try:
        if options.tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, _credentials(options.tls))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address} for gRPC: taken, or no address here") from error


def _credentials(tls: Certificates) -> grpc.ServerCredentials:
    given = tls.current

    def configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(pems.key, pems.certificate)], root_certificates=pems.client_ca
        )

    def changed() -> grpc.ServerCertificateConfiguration | None:
        """None where they are the same.

        gRPC puts a new one in place of the last; done at each of many handshakes at once, it read
        what it had freed.
        """
        nonlocal given
        pems = tls.current
        if pems is given:
            return None
        given = pems
        return configuration(pems)

    return grpc.dynamic_ssl_server_credentials(
        configuration(given),
        changed,  # type: ignore[arg-type]  # its stub does not know that None keeps the last
        tls.asks_clients,
    )


def _age_options(options: GrpcOptions) -> list[tuple[str, int]]:
    if not options.max_age_s:
        return []
    return [
        ("grpc.max_connection_age_ms", round(options.max_age_s * 1000)),
        ("grpc.max_connection_age_grace_ms", round(options.age_grace_s * 1000)),
    ]


def _channel_options(options: GrpcOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", options.max_receive_message_bytes),
        ("grpc.max_concurrent_streams", options.max_concurrent_streams),
        ("grpc.keepalive_time_ms", round(options.keepalive_time_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        # Which pings have a time of their own for, a minute, and wait for that instead.
        ("grpc.http2.ping_timeout_ms", round(options.keepalive_timeout_s * 1000)),
        # Who connects and says nothing goes soon; a client that is idle connects again by itself.
        ("grpc.server_handshake_timeout_ms", round(options.handshake_timeout_s * 1000)),
        ("grpc.max_connection_idle_ms", round(options.idle_timeout_s * 1000)),
        *_age_options(options),
        ("grpc.enable_channelz", int(options.is_watched)),
        # Pings are answered, however many: gRPC stops reading while answers wait to be sent. To
        # turn away who sends too many costs it 2 KiB for each ping that has come with them.
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        ("grpc.server_max_unrequested_time_in_server", _MAX_PENDING_S),
        # A compressed request would be unpacked whole before its size is checked: some KiB could
        # take all memory. Only bit 0, no compression, is set; images are compressed already.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # A second server on the same port is a mistake, not a way to share load.
        ("grpc.so_reuseport", 0),
    ]
