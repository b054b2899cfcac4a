"""Every method of the four clients of `tritonclient`, and what came of it, as one line of JSON."""

import asyncio
import inspect
import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

GRPC, HTTP, MODEL, SPARE = sys.argv[1:5]
#: Nothing that a server is asked.
OWN = {"close", "plugin", "register_plugin", "unregister_plugin"}
OWN |= {"generate_request_body", "parse_response_body"}
HANDLE = b"{}"
CALLS = {
    "is_server_live": (),
    "is_server_ready": (),
    "is_model_ready": (MODEL,),
    "get_server_metadata": (),
    "get_model_metadata": (MODEL,),
    "get_model_config": (MODEL,),
    "get_model_repository_index": (),
    "unload_model": (SPARE,),
    "load_model": (SPARE,),
    "get_inference_statistics": (),
    "get_trace_settings": (),
    "update_trace_settings": (None, {"trace_rate": "5"}),
    "get_log_settings": (),
    "update_log_settings": ({"log_verbose_level": 0},),
    "infer": (MODEL,),
    "async_infer": (MODEL,),
    "start_stream": (),
    "async_stream_infer": (MODEL,),
    "stop_stream": (),
    "stream_infer": (),
    "get_system_shared_memory_status": (),
    "register_system_shared_memory": ("r", "/r", 8),
    "unregister_system_shared_memory": ("r",),
    "get_cuda_shared_memory_status": (),
    "register_cuda_shared_memory": ("r", HANDLE, 0, 8),
    "unregister_cuda_shared_memory": ("r",),
}


def inputs(module):
    prompt = module.InferInput("PROMPT", [1], "BYTES")
    prompt.set_data_from_numpy(np.array(["a red circle"], dtype=np.object_))
    seed = module.InferInput("SEED", [1], "UINT64")
    seed.set_data_from_numpy(np.array([7], dtype=np.uint64))
    return [prompt, seed]


class Caller:
    """One client; `streamed`: answers of its stream."""

    def __init__(self, module, client):
        self.module, self.client = module, client
        self.streamed = queue.Queue()

    def given(self, name):
        given = CALLS[name]
        if name == "start_stream":
            return (lambda result, error: self.streamed.put((result, error)),)
        if name == "async_infer" and "grpc" in self.module.__name__:
            return (
                *given,
                inputs(self.module),
                lambda result, error: self.streamed.put((result, error)),
            )
        if name in ("infer", "async_infer", "async_stream_infer"):
            return (*given, inputs(self.module))
        return given

    async def call(self, name):
        found = getattr(self.client, name)
        if name == "stream_infer":
            return await self.stream(found)
        answer = found(*self.given(name))
        answer = await answer if inspect.isawaitable(answer) else answer
        if name == "async_infer" and answer is not None and hasattr(answer, "get_result"):
            answer = answer.get_result()
        if name in ("async_stream_infer", "async_infer") and "grpc" in self.module.__name__:
            answer, error = self.streamed.get(timeout=240)
            if error is not None:
                raise error
        if name.endswith("infer"):
            assert answer.as_numpy("SEED").tolist() == [7], answer
        return answer

    async def stream(self, found):
        async def requests():
            yield {"model_name": MODEL, "inputs": inputs(self.module)}

        async for answer, error in found(requests()):
            if error is not None:
                raise error
            assert answer.as_numpy("SEED").tolist() == [7]

    async def all(self):
        named = inspect.getmembers(type(self.client), callable)
        there = {name for name, _ in named if not name.startswith("_")} - OWN
        unknown = there - CALLS.keys()
        came = dict.fromkeys(unknown, "not known to this test")
        for name in CALLS:
            if name in there:
                came[name] = await self.outcome(name)
        return came

    async def outcome(self, name):
        try:
            answer = await self.call(name)
        except InferenceServerException as error:
            return str(error.status()).removeprefix("StatusCode.")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "false" if answer is False else "answered"


async def main():
    found = {}
    with triton_grpc.InferenceServerClient(GRPC) as client:
        found["grpc"] = await Caller(triton_grpc, client).all()
    async with triton_grpc_aio.InferenceServerClient(GRPC) as client:
        found["grpc aio"] = await Caller(triton_grpc, client).all()
    with triton_http.InferenceServerClient(HTTP, network_timeout=240) as client:
        found["http"] = await Caller(triton_http, client).all()
    async with triton_http_aio.InferenceServerClient(HTTP, conn_timeout=240) as client:
        found["http aio"] = await Caller(triton_http, client).all()
    print(json.dumps(found))


asyncio.run(main())
