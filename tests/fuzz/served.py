"""`python -m tests.fuzz.served`: the same over the wire, to a server of the fake model.

No input may be answered by INTERNAL or a 500, kill the server or its worker, or be left without an
answer; memory must not grow.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import grpc
import httpx

from bench.serving import Server, serving
from tests.fuzz.__main__ import MAX_GROWTH_BYTES
from tests.fuzz.kinds import kinds
from tests.fuzz.mutations import mutated

METHODS = ("/darkroom.v1.ImageService/Generate", "/darkroom.v1.ImageService/Fill")
PATHS = (
    *("/v1/images/generations", "/v1/chat/completions", "/v1/models", "/v1/predictions"),
    *("/darkroom.v1.ImageService/Generate", "/v2/models/fake/infer", "/models/fake", "/fake"),
    *("/darkroom.v1.ModelService/GetModel", "/v1/images/edits", "/v2/repository/index"),
)
TYPES = ("application/json", "multipart/form-data; boundary=x", "application/proto", "text/plain")
GIVE_UP_S = 120.0
BODIES = [
    json.dumps(one).encode()
    for one in (
        {"prompt": "x", "size": "64x64", "n": 1, "model": "fake"},
        {"inputs": "x", "parameters": {"width": 64, "height": 64, "num_inference_steps": 1}},
        {"inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["x"]}]},
        {"input": {"prompt": "x", "width": 64, "height": 64, "num_inference_steps": 1}},
        {"prompt": "x", "widthPx": 64, "heightPx": 64, "stepCount": 1, "imageCount": 1},
    )
]
BODIES.append(b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\na cat\r\n--x--\r\n')


def resident_bytes(pid: int) -> int:
    """Of the server."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def ask(server: Server, channel: grpc.Channel, client: httpx.Client, rng: random.Random) -> str:
    """One input; how it ended."""
    if rng.random() < 0.5:
        method = channel.unary_stream(rng.choice(METHODS))
        content = mutated(rng, messages)
        try:
            for _ in method(content, timeout=GIVE_UP_S):
                pass
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"
    port = server.until("listening")["http_port"]
    answer = client.post(
        f"http://127.0.0.1:{port}{rng.choice(PATHS)}",
        content=mutated(rng, BODIES),
        headers={"content-type": rng.choice(TYPES)},
    )
    return str(answer.status_code)


messages = next(one.seeds for one in kinds() if one.name == "messages")


def main() -> None:
    """Runs them; exits with 1 where something unforeseen was seen."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.served", description=__doc__)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng, ends = random.Random(args.seed), Counter[str]()
    first_bytes, began_s = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fake" / "1").mkdir(parents=True)
        config = "backend: BACKEND_FAKE limits { max_size_px: 256 max_step_count: 20 }\n"
        (Path(folder) / "fake" / "config.pbtxt").write_text(config)
        with (
            serving(folder) as server,
            httpx.Client(timeout=GIVE_UP_S) as client,
            grpc.insecure_channel(server.until("listening") and server.address) as channel,
        ):
            server.until("model", state="ready")
            for number in range(args.count):
                if number == args.count // 5:
                    first_bytes = resident_bytes(server.process.pid)
                ends[ask(server, channel, client, rng)] += 1
            growth_bytes = resident_bytes(server.process.pid) - first_bytes
            died_count = sum(one.get("event") == "worker died" for one in server.log)
            traced_count = sum("Traceback" in str(one) for one in server.log)
            is_alive = server.process.poll() is None
    bad_count = sum(ends[one] for one in ("INTERNAL", "UNKNOWN", "500", "DEADLINE_EXCEEDED"))
    print(
        f"{args.count} inputs in {time.monotonic() - began_s:.0f} s: {dict(ends)}; "
        f"{bad_count} unforeseen, {traced_count} tracebacks, {died_count} workers died, "
        f"server +{growth_bytes / 2**20:.1f} MiB"
    )
    is_good = is_alive and not bad_count + died_count + traced_count
    raise SystemExit(0 if is_good and growth_bytes < MAX_GROWTH_BYTES else 1)


if __name__ == "__main__":
    main()
