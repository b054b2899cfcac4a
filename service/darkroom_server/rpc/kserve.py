"""`inference.GRPCInferenceService`: Triton's and KServe's clients are served as they are."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

from grpc import aio

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom.kserve.v2 import inference_pb2_grpc
from darkroom_server.domain.errors import NotOffered
from darkroom_server.engine.engine import Engine
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.rpc.kserve_stream import InferenceStream
from darkroom_server.rpc.renamed import Renamed
from darkroom_server.wire.calls import current_call
from darkroom_server.wire.kserve import control, metadata
from darkroom_server.wire.kserve.inference import Inference
from darkroom_server.wire.kserve.messages import call_of, infer_response
from darkroom_server.wire.kserve.not_offered import SHARED_MEMORY
from darkroom_server.wire.kserve.statistics import model_statistics
from darkroom_server.wire.model_requests import check_model_name
from darkroom_server.wire.readiness import is_ready

#: The name on the wire, which is another than the generated code's.
INFERENCE_SERVICE: Final = "inference.GRPCInferenceService"
#: Asks for a stream that ends with the status of its first error.
_ENDS_ON_ERROR_KEY: Final = "triton_grpc_error"

_Context = aio.ServicerContext[Any, Any]


def add_inference(engine: Engine, pictures: Pictures, server: aio.Server) -> None:
    """Serves the protocol under the name that its clients use."""
    renamed: Any = Renamed(server, INFERENCE_SERVICE)
    service = InferenceService(engine, pictures)
    inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, renamed)


class InferenceService(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves every method. Errors are raised; the interceptor makes statuses of them."""

    def __init__(self, engine: Engine, pictures: Pictures) -> None:
        self._engine = engine
        self._inference = Inference(engine, pictures)

    async def ServerLive(
        self, _request: pb.ServerLiveRequest, _context: _Context
    ) -> pb.ServerLiveResponse:
        """True: it answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, _request: pb.ServerReadyRequest, _context: _Context
    ) -> pb.ServerReadyResponse:
        """Whether every model that should serve does."""
        return pb.ServerReadyResponse(ready=self._engine.is_ready())

    async def ModelReady(
        self, request: pb.ModelReadyRequest, _context: _Context
    ) -> pb.ModelReadyResponse:
        """Whether a model or version serves; what is not there does not."""
        return pb.ModelReadyResponse(
            ready=bool(is_ready(self._engine, request.name, request.version))
        )

    async def ServerMetadata(
        self, _request: pb.ServerMetadataRequest, _context: _Context
    ) -> pb.ServerMetadataResponse:
        """What the server is."""
        return metadata.server_metadata()

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, _context: _Context
    ) -> pb.ModelMetadataResponse:
        """The tensors of a model."""
        check_model_name(request.name)
        await self._engine.scanned()
        return metadata.model_metadata(self._engine.get_model(request.name), request.version)

    async def ModelConfig(
        self, request: pb.ModelConfigRequest, _context: _Context
    ) -> pb.ModelConfigResponse:
        """How a model is configured."""
        check_model_name(request.name)
        await self._engine.scanned()
        status = self._engine.get_model(request.name)
        return pb.ModelConfigResponse(config=metadata.model_config(status, request.version))

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: _Context
    ) -> pb.ModelInferResponse:
        """All images of a request in one answer."""
        await self._engine.scanned()
        answer = await self._inference.once(call_of(request), deadline_s=_deadline_s(context))
        return infer_response(answer)

    async def ModelStreamInfer(
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: _Context
    ) -> AsyncGenerator[pb.ModelStreamInferResponse, None]:
        """Previews and images of any number of requests, as they are made."""
        await self._engine.scanned()
        deadline_s = _deadline_s(context)

        async def run(
            request: pb.ModelInferRequest,
        ) -> AsyncGenerator[pb.ModelInferResponse, None]:
            answers = self._inference.stream(call_of(request), deadline_s=deadline_s)
            async with aclosing(answers):
                async for answer in answers:
                    yield infer_response(answer)

        stream = InferenceStream(
            run, current_call().request_id, ends_on_error=_ends_on_error(context)
        )
        async with aclosing(stream.answers(request_iterator)) as answers:
            async for answer in answers:
                yield answer

    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, _context: _Context
    ) -> pb.ModelStatisticsResponse:
        """What was counted."""
        await self._engine.scanned()
        return model_statistics(self._engine, request.name, request.version)

    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, _context: _Context
    ) -> pb.RepositoryIndexResponse:
        """Every version of every model."""
        await self._engine.scanned()
        return metadata.repository_index(self._engine.list_models(), only_ready=request.ready)

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, _context: _Context
    ) -> pb.RepositoryModelLoadResponse:
        """Loads a model, and answers when it serves."""
        name = request.model_name or request.repository_name
        own_name = await control.load(self._engine, name, _values(request.parameters))
        return pb.RepositoryModelLoadResponse(model_name=own_name, is_loaded=True)

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, _context: _Context
    ) -> pb.RepositoryModelUnloadResponse:
        """Lets a model leave, and answers when it has."""
        name = request.model_name or request.repository_name
        own_name = await control.unload(self._engine, name, _values(request.parameters))
        return pb.RepositoryModelUnloadResponse(model_name=own_name, is_unloaded=True)

    async def TraceSetting(
        self, request: pb.TraceSettingRequest, _context: _Context
    ) -> pb.TraceSettingResponse:
        """Which requests are traced."""
        await self._engine.scanned()
        changes = {name: tuple(setting.value) for name, setting in request.settings.items()}
        control.change_trace_settings(self._engine, request.model_name, changes)
        settings = control.trace_settings(self._engine, request.model_name)
        value = pb.TraceSettingResponse.SettingValue
        return pb.TraceSettingResponse(
            settings={name: value(value=values) for name, values in settings.items()}
        )

    async def LogSettings(
        self, request: pb.LogSettingsRequest, _context: _Context
    ) -> pb.LogSettingsResponse:
        """How much is logged."""
        control.change_log_settings(_values(request.settings))
        settings = control.log_settings()
        return pb.LogSettingsResponse(
            settings={name: _log_setting(value) for name, value in settings.items()}
        )

    async def SystemSharedMemoryStatus(
        self, _request: pb.SystemSharedMemoryStatusRequest, _context: _Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """Raises NotOffered."""
        raise NotOffered(SHARED_MEMORY)

    async def SystemSharedMemoryRegister(
        self, _request: pb.SystemSharedMemoryRegisterRequest, _context: _Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Raises NotOffered."""
        raise NotOffered(SHARED_MEMORY)

    async def SystemSharedMemoryUnregister(
        self, _request: pb.SystemSharedMemoryUnregisterRequest, _context: _Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Raises NotOffered."""
        raise NotOffered(SHARED_MEMORY)

    async def CudaSharedMemoryStatus(
        self, _request: pb.CudaSharedMemoryStatusRequest, _context: _Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """Raises NotOffered."""
        raise NotOffered(SHARED_MEMORY)

    async def CudaSharedMemoryRegister(
        self, _request: pb.CudaSharedMemoryRegisterRequest, _context: _Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Raises NotOffered."""
        raise NotOffered(SHARED_MEMORY)

    async def CudaSharedMemoryUnregister(
        self, _request: pb.CudaSharedMemoryUnregisterRequest, _context: _Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Raises NotOffered."""
        raise NotOffered(SHARED_MEMORY)


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What is set of parameters or settings, whatever it is."""
    found = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(parameter, choice)
    return found


def _log_setting(value: bool | int | str) -> pb.LogSettingsResponse.SettingValue:
    match value:
        case bool():
            return pb.LogSettingsResponse.SettingValue(bool_param=value)
        case int():
            return pb.LogSettingsResponse.SettingValue(uint32_param=value)
        case str():
            return pb.LogSettingsResponse.SettingValue(string_param=value)


def _deadline_s(context: _Context) -> float | None:
    """The caller's deadline on the monotonic clock."""
    remaining_s: float | None = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + remaining_s


def _ends_on_error(context: _Context) -> bool:
    return any(
        key == _ENDS_ON_ERROR_KEY and str(value).lower() == "true"
        for key, value in context.invocation_metadata() or ()
    )
