"""The clients of `kserve` for REST and gRPC; prints what came of each call as one line of JSON."""

import asyncio
import base64
import hashlib
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

HTTP, GRPC = sys.argv[1:3]
TIMEOUT_S = 240


def request():
    prompt = InferInput(name="PROMPT", shape=[1], datatype="BYTES")
    prompt.set_data_from_numpy(np.array(["a red circle"], dtype=np.object_), binary_data=False)
    seed = InferInput(name="SEED", shape=[1], datatype="UINT64", data=[7])
    return InferRequest(model_name="paint", infer_inputs=[prompt, seed], request_id="k1")


def told(response):
    outputs = {output.name: output.as_numpy().tolist() for output in response.outputs}
    pictures = [base64.b64decode(one) if isinstance(one, str) else one for one in outputs["IMAGE"]]
    return {
        "id": response.id,
        "model": response.model_name,
        "sha256": [hashlib.sha256(one).hexdigest() for one in pictures],
        "seeds": outputs["SEED"],
    }


async def failed(work):
    try:
        await work
    except Exception as error:
        return str(error)
    return "nothing was refused"


async def main():
    rest = InferenceRESTClient(config=RESTConfig(protocol="v2", timeout=TIMEOUT_S, retries=0))
    grpc = InferenceGRPCClient(url=GRPC, timeout=TIMEOUT_S)
    nobody = request()
    nobody.model_name = "nobody"
    found = {
        "rest": {
            "live": await rest.is_server_live(HTTP),
            "ready": await rest.is_server_ready(HTTP),
            "model": await rest.is_model_ready(HTTP, "paint"),
            "nobody": await rest.is_model_ready(HTTP, "nobody"),
            "infer": told(await rest.infer(HTTP, request(), model_name="paint")),
            "error": await failed(rest.infer(HTTP, nobody, model_name="nobody")),
        },
        "grpc": {
            "live": await grpc.is_server_live(),
            "ready": await grpc.is_server_ready(),
            "model": await grpc.is_model_ready("paint"),
            "nobody": await grpc.is_model_ready("nobody"),
            "infer": told(await grpc.infer(request())),
            "error": await failed(grpc.infer(nobody)),
        },
    }
    await rest.close()
    await grpc.close()
    print(json.dumps(found))


asyncio.run(main())
