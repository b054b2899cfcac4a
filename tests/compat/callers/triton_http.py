"""Every call of `tritonclient.http`; prints what came of each as one line of JSON."""

import asyncio
import hashlib
import json
import sys
import traceback
from pathlib import Path

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

ADDRESS, REAL = sys.argv[1:3]
PICTURE, MASK = (Path(path).read_bytes() for path in sys.argv[3:5])
TIMEOUT_S = 240
CASES = {}


def case(work):
    CASES[work.__name__] = work
    return work


def text(name, value, binary=True):
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=np.object_), binary_data=binary)
    return tensor


def number(name, value, datatype, kind, binary=True):
    tensor = triton.InferInput(name, [1], datatype)
    tensor.set_data_from_numpy(np.array([value], dtype=kind), binary_data=binary)
    return tensor


def told(result):
    response = result.get_response()
    pictures = result.as_numpy("IMAGE")
    seeds = result.as_numpy("SEED")
    pictures = [] if pictures is None else pictures.tolist()
    return {
        "id": response.get("id", ""),
        "model": response["model_name"],
        "version": response["model_version"],
        "parameters": response["parameters"],
        "outputs": [output["name"] for output in response["outputs"]],
        "sha256": [hashlib.sha256(one).hexdigest() for one in pictures if isinstance(one, bytes)],
        "texts": [one for one in pictures if isinstance(one, str)],
        "seeds": [] if seeds is None else seeds.tolist(),
    }


def refused(work):
    try:
        work()
    except InferenceServerException as error:
        return [str(error.status()), error.message()]
    return ["nothing was refused", ""]


def drawing(seed=7, binary=True, **more):
    inputs = [
        text("PROMPT", "a red circle", binary),
        number("SEED", seed, "UINT64", np.uint64, binary),
    ]
    return inputs + [text(name, value, binary) for name, value in more.items()]


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
    return {
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata("paint"),
        "version": client.get_model_metadata("paint", "1"),
    }


@case
def config(client):
    return client.get_model_config("paint", "2")


@case
def index(client):
    return client.get_model_repository_index()


@case
def infer(client):
    return told(client.infer("paint", drawing(), request_id="order-1"))


@case
def infer_json(client):
    outputs = [
        triton.InferRequestedOutput("IMAGE", binary_data=False),
        triton.InferRequestedOutput("SEED", binary_data=False),
    ]
    return told(client.infer("paint", drawing(binary=False), outputs=outputs))


@case
def infer_mixed(client):
    outputs = [
        triton.InferRequestedOutput("SEED", binary_data=False),
        triton.InferRequestedOutput("IMAGE", binary_data=True),
    ]
    inputs = [
        text("PROMPT", "a red circle", binary=False),
        number("SEED", 7, "UINT64", np.uint64),
        number("GUIDANCE_SCALE", 7.1, "FP32", np.float32),
        number("COUNT", 2, "INT32", np.int32, binary=False),
    ]
    return told(client.infer("brush/paint", inputs, "canary", outputs))


@case
def infer_fills(client):
    return told(client.infer("paint", drawing(IMAGE=PICTURE, MASK=MASK)))


@case
def infer_by_parameters(client):
    return told(
        client.infer(
            "paint",
            [text("PROMPT", "x")],
            priority=1,
            timeout=TIMEOUT_S * 1_000_000,
            sequence_id=3,
            parameters={"steps": "3", "guidance_scale": 7.1, "width": 64, "height": 64, "seed": 7},
        )
    )


@case
def async_infer(client):
    return told(client.async_infer("paint", drawing()).get_result(timeout=TIMEOUT_S))


@case
def errors(client):
    wrong = [text("PROMPT", "x"), number("STEPS", 0, "INT32", np.int32)]
    return {
        "model": refused(lambda: client.infer("nobody", drawing())),
        "version": refused(lambda: client.infer("paint", drawing(), "9")),
        "value": refused(lambda: client.infer("paint", wrong)),
        "input": refused(lambda: client.infer("paint", drawing(LENS="x"))),
        "metadata": refused(lambda: client.get_model_metadata("nobody")),
        "config": refused(lambda: client.get_model_config("paint", "9")),
    }


@case
def statistics(client):
    before = client.get_inference_statistics("paint", "2")["model_stats"]
    client.infer("paint", drawing(), "2")
    after = client.get_inference_statistics("paint", "2")["model_stats"]
    every = client.get_inference_statistics()["model_stats"]
    return {"before": before, "after": after, "all": [one["name"] for one in every]}


def configured(client):
    """What a model is told to be with a config sent along, with one that is wrong, and without."""

    def steps():
        return client.get_model_config("spare")["parameters"]["default_steps"]["string_value"]

    usual = steps()
    told = client.get_model_config("spare")
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
    client.unload_model("spare", unload_dependents=True)
    gone = client.is_model_ready("spare")
    client.load_model("spare")
    return {
        "gone": gone,
        "back": client.is_model_ready("spare"),
        "nobody": refused(lambda: client.load_model("nobody")),
        "config": configured(client),
    }


@case
def settings(client):
    return {
        "log": client.get_log_settings(),
        "quiet": client.update_log_settings({"log_info": False}),
        "loud": client.update_log_settings({"log_info": True}),
        "trace": client.get_trace_settings(),
        "traced": client.update_trace_settings(
            "paint", {"trace_level": ["TIMESTAMPS"], "trace_rate": "5"}
        ),
        "cleared": client.update_trace_settings("paint", {"trace_level": None, "trace_rate": None}),
        "unknown": refused(lambda: client.update_trace_settings(settings={"trace_colour": "x"})),
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
    return told(client.infer(REAL, inputs))


@case
def aio(_client):
    async def calls():
        async with triton_aio.InferenceServerClient(ADDRESS, conn_timeout=TIMEOUT_S) as client:
            ready = await client.is_server_ready() and await client.is_model_ready("paint")
            name = (await client.get_model_metadata("paint"))["name"]
            return {
                "ready": ready,
                "name": name,
                "infer": told(await client.infer("paint", drawing())),
            }

    return asyncio.run(calls())


def main():
    found = {}
    with triton.InferenceServerClient(
        ADDRESS, connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
    ) as client:
        for name, work in CASES.items():
            try:
                found[name] = work(client)
            except Exception:
                found[name] = {"failed": traceback.format_exc()}
    print(json.dumps(found))


main()
