"""Every call of `tritonclient.grpc`, sync and aio; prints what came of each as one line of JSON."""

import asyncio
import hashlib
import json
import queue
import sys
import traceback
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import json_format
from tritonclient.utils import InferenceServerException

ADDRESS, REAL = sys.argv[1:3]
PICTURE, MASK = (Path(path).read_bytes() for path in sys.argv[3:5])
TIMEOUT_S = 240
CASES = {}


def case(work):
    CASES[work.__name__] = work
    return work


def text(name, value):
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=np.object_))
    return tensor


def number(name, value, datatype, kind):
    tensor = triton.InferInput(name, [1], datatype)
    tensor.set_data_from_numpy(np.array([value], dtype=kind))
    return tensor


def told(result):
    response = result.get_response()
    pictures = result.as_numpy("IMAGE")
    seeds = result.as_numpy("SEED")
    return {
        "id": response.id,
        "model": response.model_name,
        "version": response.model_version,
        "parameters": {
            name: getattr(one, one.WhichOneof("parameter_choice"))
            for name, one in response.parameters.items()
        },
        "outputs": [output.name for output in response.outputs],
        "sha256": [] if pictures is None else [hashlib.sha256(one).hexdigest() for one in pictures],
        "seeds": [] if seeds is None else seeds.tolist(),
    }


def refused(work):
    try:
        work()
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
    return ["nothing was refused", ""]


def drawing(seed=7, **more):
    inputs = [text("PROMPT", "a red circle"), number("SEED", seed, "UINT64", np.uint64)]
    return inputs + [text(name, value) for name, value in more.items()]


@case
def health(client):
    return [
        client.is_server_live(),
        client.is_server_ready(),
        client.is_model_ready("paint"),
        client.is_model_ready("paint", "1"),
        client.is_model_ready("paint", "canary"),
        client.is_model_ready("brush/paint"),
        client.is_model_ready("paint", "9"),
        client.is_model_ready("nobody"),
    ]


@case
def metadata(client):
    server, model = client.get_server_metadata(as_json=True), client.get_model_metadata("paint")
    return {"server": server, "model": json_format.MessageToDict(model)}


@case
def config(client):
    return client.get_model_config("paint", as_json=True)["config"]


@case
def index(client):
    return client.get_model_repository_index(as_json=True)["models"]


@case
def infer(client):
    return told(client.infer("paint", drawing(), request_id="order-1", client_timeout=TIMEOUT_S))


@case
def infer_all_inputs(client):
    inputs = [
        *drawing(),
        text("NEGATIVE_PROMPT", "blue"),
        number("WIDTH", 64, "INT32", np.int32),
        number("HEIGHT", 48, "INT32", np.int32),
        number("STEPS", 3, "INT32", np.int32),
        number("GUIDANCE_SCALE", 7.1, "FP32", np.float32),
        number("COUNT", 2, "INT32", np.int32),
        text("FORMAT", "jpeg"),
    ]
    outputs = [triton.InferRequestedOutput(name) for name in ("SEED", "IMAGE")]
    return told(client.infer("paint", inputs, "1", outputs))


@case
def infer_by_parameters(client):
    parameters = {"steps": "3", "guidance_scale": "7.1", "width": 64, "height": 64, "seed": 7}
    return told(
        client.infer(
            "brush/paint",
            [text("PROMPT", "x")],
            "canary",
            priority=1,
            timeout=TIMEOUT_S * 1_000_000,
            sequence_id=5,
            sequence_start=True,
            parameters=parameters,
        )
    )


@case
def infer_from_an_image(client):
    return told(client.infer("paint", drawing(IMAGE=PICTURE)))


@case
def infer_fills(client):
    return told(client.infer("paint", drawing(IMAGE=PICTURE, MASK=MASK)))


@case
def async_infer(client):
    done = queue.Queue()
    client.async_infer("paint", drawing(), lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=TIMEOUT_S)
    return told(result) if error is None else str(error)


@case
def errors(client):
    two = triton.InferInput("PROMPT", [2], "BYTES")
    two.set_data_from_numpy(np.array(["a", "b"], dtype=np.object_))
    wrong = [text("PROMPT", "x"), number("STEPS", 0, "INT32", np.int32)]
    return {
        "model": refused(lambda: client.infer("nobody", drawing())),
        "version": refused(lambda: client.infer("paint", drawing(), "9")),
        "value": refused(lambda: client.infer("paint", wrong)),
        "input": refused(lambda: client.infer("paint", drawing(LENS="x"))),
        "parameter": refused(lambda: client.infer("paint", drawing(), parameters={"lens": "x"})),
        "two": refused(lambda: client.infer("paint", [two])),
        "output": refused(
            lambda: client.infer("paint", drawing(), outputs=[triton.InferRequestedOutput("X")])
        ),
        "metadata": refused(lambda: client.get_model_metadata("nobody")),
        "timeout": refused(lambda: client.infer("slow", drawing(), timeout=1)),
    }


def streamed(client, asks, count, **start):
    """Answers to some requests, until as many have said that they are the last."""
    came, got, last = queue.Queue(), [], 0
    client.start_stream(lambda result, error: came.put((result, error)), **start)
    for ask in asks:
        client.async_stream_infer(**ask)
    while last < count:
        result, error = came.get(timeout=TIMEOUT_S)
        one = {"error": str(error)} if error is not None else told(result)
        got.append(one)
        last += error is not None or one["parameters"]["triton_final_response"]
    client.stop_stream()
    return got


@case
def stream(client):
    inputs = [
        *drawing(),
        number("COUNT", 2, "INT32", np.int32),
        number("PREVIEW_INTERVAL_STEPS", 1, "INT32", np.int32),
        number("STEPS", 4, "INT32", np.int32),
    ]
    ask = {"model_name": "paint", "inputs": inputs, "request_id": "s1"}
    return {
        "plain": streamed(client, [ask], 1),
        "empty": streamed(client, [ask | {"enable_empty_final_response": True}], 1),
    }


@case
def stream_of_many(client):
    asks = [
        {"model_name": "paint", "inputs": drawing(seed=at), "request_id": f"r{at}"}
        for at in range(5)
    ]
    asks.insert(2, {"model_name": "nobody", "inputs": drawing(), "request_id": "wrong"})
    return streamed(client, asks, 6)


@case
def stream_that_ends_on_an_error(client):
    ask = {"model_name": "nobody", "inputs": drawing()}
    return streamed(client, [ask], 1, headers={"triton_grpc_error": "true"})


@case
def statistics(client):
    before = client.get_inference_statistics("paint", "2", as_json=True)["model_stats"]
    client.infer("paint", drawing(), "2")
    after = client.get_inference_statistics("paint", "2", as_json=True)["model_stats"]
    every = client.get_inference_statistics(as_json=True)["model_stats"]
    return {"before": before, "after": after, "all": [one["name"] for one in every]}


def configured(client):
    """What a model is told to be with a config sent along, with one that is wrong, and without."""

    def steps():
        return client.get_model_config("spare").config.parameters["default_steps"].string_value

    usual = steps()
    told = client.get_model_config("spare", as_json=True)["config"]
    client.load_model("spare", config=json.dumps(told | {"defaults": {"step_count": 3}}))
    three = steps()
    drawn = told_of(client.infer("spare", drawing()))
    wrong = refused(lambda: client.load_model("spare", config='{"defaults": {"step_count": -4}}'))
    unknown = refused(lambda: client.load_model("spare", config='{"colour": 1}'))
    still = steps()
    client.load_model("spare")
    return {
        "steps": [usual, three, still, steps()],
        "seeds": drawn,
        "wrong": wrong,
        "unknown": unknown,
    }


def told_of(result):
    return result.as_numpy("SEED").tolist()


@case
def control(client):
    client.unload_model("spare")
    gone = client.is_model_ready("spare")
    client.load_model("spare")
    return {
        "gone": gone,
        "back": client.is_model_ready("spare"),
        "nobody": refused(lambda: client.load_model("nobody")),
        "config": configured(client),
        "files": refused(lambda: client.load_model("spare", files={"file:1/x": b"x"}, config="{}")),
    }


@case
def settings(client):
    before = client.get_log_settings(as_json=True)["settings"]
    quiet = client.update_log_settings({"log_info": False}, as_json=True)["settings"]
    client.update_log_settings({"log_info": True})
    trace = client.get_trace_settings(as_json=True)["settings"]
    traced = client.update_trace_settings(
        "paint", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}, as_json=True
    )["settings"]
    client.infer("paint", drawing(), request_id="traced")
    cleared = client.update_trace_settings(
        "paint", {"trace_level": None, "trace_rate": None}, as_json=True
    )["settings"]
    return {
        "log": before,
        "quiet": quiet,
        "trace": trace,
        "traced": traced,
        "cleared": cleared,
        "unknown": refused(lambda: client.update_log_settings({"log_colour": True})),
    }


def shared(tensor):
    tensor.set_shared_memory("a", 8)
    return tensor


@case
def not_offered(client):
    image = triton.InferRequestedOutput
    return [
        refused(lambda: client.infer("paint", [shared(triton.InferInput("PROMPT", [1], "BYTES"))])),
        refused(lambda: client.infer("paint", drawing(), outputs=[shared(image("IMAGE"))])),
        refused(lambda: client.infer("paint", drawing(), outputs=[image("IMAGE", class_count=3)])),
    ]


@case
def shared_memory(client):
    return [
        refused(lambda: client.register_system_shared_memory("a", "/a", 8)),
        refused(lambda: client.get_system_shared_memory_status()),
        refused(lambda: client.unregister_system_shared_memory("a")),
        refused(lambda: client.register_cuda_shared_memory("a", b"", 0, 8)),
        refused(lambda: client.get_cuda_shared_memory_status()),
        refused(lambda: client.unregister_cuda_shared_memory("a")),
    ]


@case
def real_model(client):
    inputs = [*drawing(seed=11), number("STEPS", 3, "INT32", np.int32)]
    return told(client.infer(REAL, inputs, client_timeout=TIMEOUT_S))


@case
def aio(_client):
    async def calls():
        async with triton_aio.InferenceServerClient(ADDRESS) as client:
            ready = await client.is_server_ready() and await client.is_model_ready("paint")
            name = (await client.get_model_metadata("paint")).name
            result = await client.infer("paint", drawing())

            async def requests():
                for at in range(2):
                    yield {
                        "model_name": "paint",
                        "inputs": drawing(seed=at),
                        "request_id": str(at),
                    }

            came = []
            async for answer, error in client.stream_infer(requests()):
                came.append(str(error) if error is not None else told(answer))
            return {"ready": ready, "name": name, "infer": told(result), "stream": came}

    return asyncio.run(calls())


def main():
    found = {}
    with triton.InferenceServerClient(ADDRESS) as client:
        for name, work in CASES.items():
            try:
                found[name] = work(client)
            except Exception:
                found[name] = {"failed": traceback.format_exc()}
    print(json.dumps(found))


main()
