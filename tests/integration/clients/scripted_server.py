"""A server that says what a test tells it to, on a real port."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from darkroom.v1 import (
    image_service_pb2,
    image_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)

Event = image_service_pb2.GenerationEvent
Request = image_service_pb2.GenerateRequest | image_service_pb2.FillRequest
Script = Callable[[Request, grpc.ServicerContext], Iterator[Event]]


def accepted(**parameters: object) -> Event:
    event = Event()
    event.accepted.generation_id = "g-1"
    event.accepted.parameters.MergeFrom(
        type(event.accepted.parameters)(
            **{"model": "models/scripted", "width_px": 2, "height_px": 2, "seeds": [7]} | parameters
        )
    )
    return event


def warned(reason: str, description: str) -> Event:
    event = accepted()
    event.accepted.warnings.add(reason=reason, description=description, field="width_px")
    return event


def queued(ahead_count: int, *, model_loading: bool = False) -> Event:
    return Event(queued=Event.Queued(ahead_count=ahead_count, model_loading=model_loading))


def step(completed: int, total: int) -> Event:
    return Event(
        progress=Event.Progress(
            stage=Event.STAGE_DENOISE, completed_step_count=completed, total_step_count=total
        )
    )


def announce(content: bytes, index: int = 0, **changes: object) -> Event:
    fields: dict[str, object] = {
        "image_index": index,
        "media_type": "image/png",
        "width_px": 2,
        "height_px": 2,
        "seed": 7 + index,
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).digest(),
        "finish_reason": Event.FINISH_REASON_SUCCESS,
    }
    return Event(image=Event.Image(**(fields | changes)))


def chunk(content: bytes, offset: int = 0, index: int = 0) -> Event:
    return Event(chunk=Event.Chunk(image_index=index, offset_bytes=offset, content=content))


def completed(image_count: int = 1) -> Event:
    event = Event(completed=Event.Completed(image_count=image_count))
    event.completed.timings.denoise_duration.FromMilliseconds(1500)
    return event


def image(content: bytes, index: int = 0, chunk_size: int = 256 * 1024) -> list[Event]:
    """An image in chunks."""
    starts = range(0, len(content), chunk_size)
    chunks = [chunk(content[start : start + chunk_size], start, index) for start in starts]
    return [announce(content, index), *chunks]


def says(*events: Event) -> Script:
    """A call that sends these events and ends well."""

    def script(_request: Request, _context: grpc.ServicerContext) -> Iterator[Event]:
        yield from events

    return script


def fails(
    code: grpc.StatusCode,
    message: str,
    *details: Message,
    after: tuple[Event, ...] = (),
    pushback_ms: int | None = None,
) -> Script:
    """A call that ends with a status and its google.rpc details."""

    def script(_request: Request, context: grpc.ServicerContext) -> Iterator[Event]:
        yield from after
        metadata: list[tuple[str, str | bytes]] = []
        if details:
            status = status_pb2.Status(code=code.value[0], message=message)
            for detail in details:
                packed = any_pb2.Any()
                packed.Pack(detail)
                status.details.append(packed)
            metadata.append(("grpc-status-details-bin", status.SerializeToString()))
        if pushback_ms is not None:
            metadata.append(("grpc-retry-pushback-ms", str(pushback_ms)))
        context.set_trailing_metadata(metadata)
        context.abort(code, message)

    return script


def error_info(reason: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain="darkroom.test")


@dataclass
class Images(image_service_pb2_grpc.ImageServiceServicer):
    """Plays `scripts`, one a call, and keeps what it was asked."""

    scripts: list[Script] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def _play(self, request: Request, context: grpc.ServicerContext) -> Iterator[Event]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        yield from self.scripts.pop(0)(request, context)

    def Generate(
        self, request: image_service_pb2.GenerateRequest, context: grpc.ServicerContext
    ) -> Iterator[image_service_pb2.GenerateResponse]:
        for event in self._play(request, context):
            yield image_service_pb2.GenerateResponse(event=event)

    def Fill(
        self, request: image_service_pb2.FillRequest, context: grpc.ServicerContext
    ) -> Iterator[image_service_pb2.FillResponse]:
        for event in self._play(request, context):
            yield image_service_pb2.FillResponse(event=event)

    def waits(self, *events: Event) -> Script:
        """A call that sends these events and then waits to be cancelled."""

        def script(_request: Request, context: grpc.ServicerContext) -> Iterator[Event]:
            context.add_callback(self.cancelled.set)
            yield from events
            self.cancelled.wait(300)

        return script


@dataclass
class Models(model_service_pb2_grpc.ModelServiceServicer):
    """Lists `models`, one on each page; answers loads by `load_reports` and keeps what was asked.

    Labels and unloads are answered with the first model.
    """

    models: list[model_service_pb2.Model] = field(default_factory=list)
    load_reports: list[model_service_pb2.LoadModelResponse] = field(default_factory=list)
    requests: list[Message] = field(default_factory=list)

    def ListModels(
        self,
        request: model_service_pb2.ListModelsRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> model_service_pb2.ListModelsResponse:
        index = int(request.page_token or "0")
        last = index + 1 >= len(self.models)
        return model_service_pb2.ListModelsResponse(
            models=self.models[index : index + 1],
            next_page_token="" if last else str(index + 1),
        )

    def LoadModel(
        self,
        request: model_service_pb2.LoadModelRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[model_service_pb2.LoadModelResponse]:
        self.requests.append(request)
        yield from self.load_reports
        if not self.load_reports:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not explicit")

    def UnloadModel(
        self,
        request: model_service_pb2.UnloadModelRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> model_service_pb2.UnloadModelResponse:
        self.requests.append(request)
        return model_service_pb2.UnloadModelResponse(model=self.models[0])

    def SetVersionLabel(
        self,
        request: model_service_pb2.SetVersionLabelRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> model_service_pb2.SetVersionLabelResponse:
        self.requests.append(request)
        return model_service_pb2.SetVersionLabelResponse(model=self.models[0])

    def DeleteVersionLabel(
        self,
        request: model_service_pb2.DeleteVersionLabelRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> model_service_pb2.DeleteVersionLabelResponse:
        self.requests.append(request)
        return model_service_pb2.DeleteVersionLabelResponse(model=self.models[0])

    def GetModel(
        self, request: model_service_pb2.GetModelRequest, context: grpc.ServicerContext
    ) -> model_service_pb2.GetModelResponse:
        for model in self.models:
            if request.name == model.name:
                return model_service_pb2.GetModelResponse(model=model)
        context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name!r}")
        raise AssertionError("abort raises")


@dataclass
class ScriptedServer:
    """The services and where they are; a context manager."""

    images: Images = field(default_factory=Images)
    models: Models = field(default_factory=Models)
    address: str = ""

    def __enter__(self) -> ScriptedServer:
        # Requests as large as the real server takes them.
        options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
        image_service_pb2_grpc.add_ImageServiceServicer_to_server(self.images, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self.models, self._server)
        checks = health.HealthServicer()
        checks.set("", health_pb2.HealthCheckResponse.SERVING)
        checks.set("darkroom.v1.ImageService", health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.images.cancelled.set()
        self._server.stop(grace=None).wait(300)
