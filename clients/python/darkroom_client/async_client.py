"""The asyncio client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
from grpc_health.v1.health_pb2_grpc import (  # type: ignore[import-untyped,unused-ignore]
    HealthStub,
)

from darkroom.v1 import (
    image_service_pb2,
    image_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
)
from darkroom_client import health, requests
from darkroom_client.assembly import EventAssembler, generation_of
from darkroom_client.connection import Connection, new_request_id
from darkroom_client.errors import Cancelled, DarkroomError
from darkroom_client.events import Event
from darkroom_client.models import (
    LoadReport,
    Model,
    load_report_of,
    load_request,
    model_of,
    unload_request,
)
from darkroom_client.requests import FillOptions, GenerateOptions, ImageInput
from darkroom_client.results import Generation
from darkroom_client.status import error_of, read_status

Request = TypeVar("Request")
Response = TypeVar("Response")
Streamed = TypeVar("Streamed", image_service_pb2.GenerateResponse, image_service_pb2.FillResponse)


class AsyncClient:
    """A connection to one server for one event loop; an asynchronous context manager.

    Create it inside the loop. Every method raises errors of `DarkroomError`'s tree: `Unavailable`
    where there is no server, `Unauthenticated`, `PermissionDenied`, `RateLimited` by its keys,
    `DeadlineExceeded` at the timeout, `ServerError` for its failures. `timeout` is in seconds and
    covers all tries of a call. Calls that the server refuses as unavailable are tried again.
    Cancelling a task cancels the call it waits for. Example::

        async with AsyncClient("127.0.0.1:8001") as client:
            requests = [client.generate("a red circle", seed=seed) for seed in range(4)]
            generations = await asyncio.gather(*requests)
    """

    def __init__(
        self,
        server: str = "127.0.0.1:8001",
        *,
        api_key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float | None = None,
        wait_for_ready: bool = False,
        max_attempts: int = 4,
    ) -> None:
        """Does not connect yet; see `Connection` for the arguments.

        With `credentials`, as `tls_credentials` makes them, the connection is TLS. With
        `wait_for_ready` a call waits, within its timeout, for a server that is not there yet.
        """
        self._connection = Connection(
            server=server,
            api_key=api_key,
            credentials=credentials,
            timeout=timeout,
            wait_for_ready=wait_for_ready,
            max_attempts=max_attempts,
        )
        options = self._connection.channel_options()
        self._channel = (
            grpc.aio.insecure_channel(server, options)
            if credentials is None
            else grpc.aio.secure_channel(server, credentials, options)
        )
        self._images = image_service_pb2_grpc.ImageServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._health = HealthStub(self._channel)
        # grpc.aio's own close() overlooks calls that run inside an asynchronous generator.
        self._calls: set[grpc.aio.Call] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the client."""
        await self.close()

    async def close(self) -> None:
        """Cancels the calls that still run and closes the connection."""
        self._closed = True
        for call in tuple(self._calls):
            call.cancel()
        await self._channel.close()

    async def generate(
        self,
        prompt: str,
        *,
        timeout: float | None = None,
        request_id: str = "",
        on_progress: Callable[[Event], None] | None = None,
        **options: Unpack[GenerateOptions],
    ) -> Generation:
        """Images of a prompt; `on_progress` is called with every event as it comes.

        Raises InvalidRequest, ModelNotFound, ModelUnavailable, QueueFull, InsufficientCredits,
        CorruptImage, Cancelled when the client is closed; TypeError for an option of another type,
        OSError for an unreadable file.
        """
        events = self.generate_events(prompt, timeout=timeout, request_id=request_id, **options)
        return await _drain(events, on_progress)

    async def fill(
        self,
        image: ImageInput,
        mask: ImageInput | None,
        prompt: str,
        *,
        timeout: float | None = None,
        request_id: str = "",
        on_progress: Callable[[Event], None] | None = None,
        **options: Unpack[FillOptions],
    ) -> Generation:
        """The image with its masked (white) part repainted; otherwise as `generate`.

        Example: `await client.fill("house.png", "mask.png", "a blue door", strength=0.9)`.
        """
        events = self.fill_events(
            image, mask, prompt, timeout=timeout, request_id=request_id, **options
        )
        return await _drain(events, on_progress)

    def generate_events(
        self,
        prompt: str,
        *,
        timeout: float | None = None,
        request_id: str = "",
        **options: Unpack[GenerateOptions],
    ) -> AsyncGenerator[Event, None]:
        """The events of one Generate; closing the generator (`contextlib.aclosing`) cancels it.

        Raises as `generate`, while the events are read. Example::

            async with contextlib.aclosing(client.generate_events("a red circle")) as events:
                async for event in events:
                    print(event)
        """
        request = requests.generate_request(prompt, **options)
        return self._stream(self._images.Generate, request, timeout, request_id)

    def fill_events(
        self,
        image: ImageInput,
        mask: ImageInput | None,
        prompt: str,
        *,
        timeout: float | None = None,
        request_id: str = "",
        **options: Unpack[FillOptions],
    ) -> AsyncGenerator[Event, None]:
        """The events of one Fill; otherwise as `generate_events`. Files are read at once."""
        request = requests.fill_request(image, mask, prompt, **options)
        return self._stream(self._images.Fill, request, timeout, request_id)

    async def list_models(self, *, timeout: float | None = None) -> list[Model]:
        """Every model of the server, loaded or not, by name.

        Example: `[one.name for one in await client.list_models() if Task.FILL in one.tasks]`.
        """
        models: list[Model] = []
        request = model_service_pb2.ListModelsRequest()
        while True:
            response = await self._unary(self._models.ListModels, request, timeout)
            models += map(model_of, response.models)
            if not response.next_page_token:
                return models
            request.page_token = response.next_page_token

    async def get_model(self, name: str, *, timeout: float | None = None) -> Model:
        """One model by resource name, hub id or alias. Raises ModelNotFound."""
        request = model_service_pb2.GetModelRequest(name=name)
        return model_of((await self._unary(self._models.GetModel, request, timeout)).model)

    async def load_model(
        self,
        name: str,
        *,
        version: str = "",
        evict_idle: bool = False,
        force_reload: bool = False,
        timeout: float | None = None,
        on_progress: Callable[[LoadReport], None] | None = None,
    ) -> Model:
        """Loads a model, or one version of it, and returns it when it is ready.

        `evict_idle` lets the server unload what nobody uses to make room; `force_reload` loads
        again what is loaded already. What ends this call, such as `timeout`, does not end the load.
        Raises ModelNotFound, Cancelled when the client is closed; ModelUnavailable with what the
        load failed of, or unless the server loads models on request (`--model-control explicit`).
        Example::

            model = await client.load_model("tiny-sdxl", version="2", evict_idle=True)
            print(model.versions[0].state, model.memory_bytes)
        """
        reports = self.load_model_events(
            name,
            version=version,
            evict_idle=evict_idle,
            force_reload=force_reload,
            timeout=timeout,
        )
        async with contextlib.aclosing(reports):
            async for report in reports:
                if on_progress is not None:
                    on_progress(report)
        return report.model

    async def load_model_events(
        self,
        name: str,
        *,
        version: str = "",
        evict_idle: bool = False,
        force_reload: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[LoadReport, None]:
        """The reports of `load_model`; there is at least one. Closing it leaves the load alone.

        Raises as `load_model`, while the reports are read.
        """
        request = load_request(
            name, version=version, evict_idle=evict_idle, force_reload=force_reload
        )
        responses = self._responses(self._models.LoadModel, request, timeout, new_request_id())
        async with contextlib.aclosing(responses):
            async for response in responses:
                yield load_report_of(response)

    async def unload_model(
        self,
        name: str,
        *,
        version: str = "",
        drain_s: float | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Unloads a model, or one version of it, and returns when it has left.

        Requests that run have `drain_s` seconds to end, None: as long as they need. A load that has
        not ended is cancelled. Raises ModelNotFound; ModelUnavailable unless the server loads
        models on request (`--model-control explicit`); ValueError for a NaN `drain_s`.
        """
        request = unload_request(name, version=version, drain_s=drain_s)
        return model_of((await self._unary(self._models.UnloadModel, request, timeout)).model)

    async def set_version_label(
        self,
        name: str,
        label: str,
        version: str | int,
        *,
        traffic_percent: float | None = None,
        timeout: float | None = None,
    ) -> Model:
        """Points a label at a version that is ready: a number, or another label.

        `traffic_percent`: share of the requests that name no version which gets the label's. Raises
        InvalidRequest, ModelNotFound; ModelUnavailable for a version that is not ready. Example::

            await client.set_version_label("tiny-sdxl", "canary", 2, traffic_percent=5)
        """
        request = model_service_pb2.SetVersionLabelRequest(
            name=name, label=label, version=str(version), traffic_percent=traffic_percent
        )
        return model_of((await self._unary(self._models.SetVersionLabel, request, timeout)).model)

    async def delete_version_label(
        self, name: str, label: str, *, timeout: float | None = None
    ) -> Model:
        """Removes a label. Raises InvalidRequest, ModelNotFound."""
        request = model_service_pb2.DeleteVersionLabelRequest(name=name, label=label)
        return model_of(
            (await self._unary(self._models.DeleteVersionLabel, request, timeout)).model
        )

    async def health(self, service: str = "", *, timeout: float | None = None) -> health.Health:
        """Whether the server, or one service of it, takes requests."""
        request = health.check_request(service)
        return health.health_of(await self._unary(self._health.Check, request, timeout))

    async def _stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Streamed],
        request: Request,
        timeout: float | None,
        request_id: str,
    ) -> AsyncGenerator[Event, None]:
        request_id = request_id or new_request_id()
        assembler = EventAssembler(request_id)
        responses = self._responses(method, request, timeout, request_id)
        async with contextlib.aclosing(responses):
            async for response in responses:
                event = assembler.feed(response.event)
                if event is not None:
                    yield event
        assembler.finish()

    async def _responses(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
        request_id: str,
    ) -> AsyncGenerator[Response, None]:
        """What a streaming call answers; closing it cancels the call."""
        call = method(
            request,
            timeout=self._timeout(timeout),
            metadata=self._connection.metadata(request_id),
            wait_for_ready=self._connection.wait_for_ready,
        )
        self._calls.add(call)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise self._error(error, request_id) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                raise Cancelled("the client was closed", request_id=request_id) from None
            raise
        finally:
            self._calls.discard(call)
            call.cancel()

    async def _unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
    ) -> Response:
        request_id = new_request_id()
        try:
            return await method(
                request,
                timeout=self._timeout(timeout),
                metadata=self._connection.metadata(request_id),
                wait_for_ready=self._connection.wait_for_ready,
            )
        except grpc.aio.AioRpcError as error:
            raise self._error(error, request_id) from None

    def _timeout(self, timeout: float | None) -> float | None:
        return self._connection.timeout if timeout is None else timeout

    def _error(self, error: grpc.aio.AioRpcError, request_id: str) -> DarkroomError:
        status = read_status(error.code(), error.details(), error.trailing_metadata(), request_id)
        return error_of(status, self._connection.server)


async def _drain(
    events: AsyncGenerator[Event, None], on_progress: Callable[[Event], None] | None
) -> Generation:
    seen: list[Event] = []
    async with contextlib.aclosing(events):
        async for event in events:
            if on_progress is not None:
                on_progress(event)
            seen.append(event)
    return generation_of(seen)
