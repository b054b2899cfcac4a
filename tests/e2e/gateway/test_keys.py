"""A real server that asks for keys, and the clients that people have."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import openai
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from huggingface_hub.errors import HfHubHTTPError

from bench.serving import Server, connected, serving
from darkroom.v1.image_service_connect import ImageServiceClient
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom.v1.model_service_connect import ModelServiceClient
from darkroom.v1.model_service_pb2 import ListModelsRequest, UnloadModelRequest
from darkroom_client import Client
from darkroom_client.errors import (
    InsufficientCredits,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
)
from tests.e2e.gateway.conftest import grey, opened

#: 64x64 px in 10 steps.
SIZE = {"width": 64, "height": 64}
COST = 64 * 64 * 10 / 1e6


@dataclass(frozen=True, slots=True)
class Guarded:
    """A server that asks for keys, and the file that it reads them from."""

    server: Server
    url: str
    keys_file: Path

    def key(self, *options: str) -> str:
        """A key made as an operator makes one, once the server knows it."""
        mark = len(self.server.log)
        made = darkroom("keys", "create", "a test", "--keys-file", str(self.keys_file), *options)
        self.server.until("keys read", after=mark)
        return made

    def spent(self, key: str) -> float:
        """Credits that the key has spent, by its own word."""
        shown = {"authorization": f"Bearer {key}"}
        standing = httpx.get(f"{self.url}/darkroom/v1/key", headers=shown).json()
        spent: float = standing["credits"]["spent"]
        return spent


def darkroom(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("darkroom")), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    for name, config in (
        ("quick", ""),
        ("slow", "fake { step_s: 0.05 }"),
        ("narrow", "max_batch_size: 1\nfake { step_s: 0.02 }"),
    ):
        (folder / "models" / name / "1").mkdir(parents=True)
        text = f"backend: BACKEND_FAKE\ntasks: [TASK_TEXT_TO_IMAGE, TASK_FILL]\n{config}\n"
        (folder / "models" / name / "config.pbtxt").write_text(text)
    keys_file = folder / "keys.toml"
    first = darkroom("keys", "create", "the first", "--keys-file", str(keys_file))
    with serving(folder / "models", "--keys-file", str(keys_file)) as server:
        for name in ("quick", "slow", "narrow"):
            server.until("model", model=f"{name}/1", state="ready")
        url = f"http://127.0.0.1:{server.until('listening')['http_port']}"
        yield Guarded(server, url, keys_file)
        log = json.dumps(server.log)
        assert first not in log
        assert "dk_" not in log
        assert "unhandled error" not in {entry.get("event") for entry in server.log}


def steps_done(line: str) -> int:
    """Steps that a line of an event stream tells of; 0 when it tells of none."""
    found = re.search(r'"completedStepCount":(\d+)', line)
    return int(found[1]) if found else 0


def openai_of(guarded: Guarded, key: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, max_retries=0, **options)


def draw(client: openai.OpenAI) -> Any:
    return client.images.generate(
        model="quick", prompt="x", size="64x64", extra_body={"num_inference_steps": 10}
    )


def test_the_openai_client_draws_with_a_key_and_names_its_errors(guarded: Guarded) -> None:
    key = guarded.key("--rate-limit", "1/hour", "--credits", str(2 * COST))
    client = openai_of(guarded, key)
    raw = client.images.with_raw_response.generate(
        model="quick", prompt="x", size="64x64", extra_body={"num_inference_steps": 10}
    )
    made = raw.parse()
    assert opened(made.data[0].b64_json or "").size == (64, 64)
    assert raw.headers["x-ratelimit-remaining-requests"] == "0"
    assert float(raw.headers["x-darkroom-credits-left"]) == pytest.approx(COST)
    with pytest.raises(openai.RateLimitError) as limited:
        draw(client)
    assert limited.value.code == "rate_limit_exceeded"
    assert 0 < int(limited.value.response.headers["retry-after"]) <= 3600
    with pytest.raises(openai.AuthenticationError) as stranger:
        draw(openai_of(guarded, "sk-nobody"))
    assert stranger.value.code == "invalid_api_key"
    assert [one.id for one in client.models.list()] == ["narrow", "quick", "slow"]
    with pytest.raises(openai.AuthenticationError):
        openai_of(guarded, "sk-nobody").models.list()


def test_the_openai_client_is_told_that_credits_are_used_up(guarded: Guarded) -> None:
    client = openai_of(guarded, guarded.key("--credits", "0"))
    with pytest.raises(openai.RateLimitError) as poor:
        draw(client)
    assert poor.value.code == "insufficient_quota"
    assert poor.value.response.headers["x-should-retry"] == "false"


def test_the_hugging_face_client_draws_with_a_key_and_shows_why_not(guarded: Guarded) -> None:
    def client(key: str | None) -> huggingface_hub.InferenceClient:
        return huggingface_hub.InferenceClient(model=f"{guarded.url}/models/quick", token=key)

    picture = client(guarded.key()).text_to_image("x", **SIZE)
    assert picture.size == (64, 64)
    with pytest.raises(HfHubHTTPError, match="key of this service") as caught:
        client("hf_something").text_to_image("x")
    assert caught.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError, match="0 are left") as caught:
        client(guarded.key("--credits", "0")).text_to_image("x")
    assert caught.value.response.status_code == 429
    with pytest.raises(HfHubHTTPError, match="may not generate") as caught:
        client(guarded.key("--allow", "fill")).text_to_image("x")
    assert caught.value.response.status_code == 403


def test_the_python_client_draws_with_a_key_and_raises_what_it_is_told(guarded: Guarded) -> None:
    address = guarded.server.address
    with Client(address, api_key=guarded.key("--rate-limit", "1/hour")) as client:
        assert client.generate("x", model="quick").images
        with pytest.raises(RateLimited) as limited:
            client.generate("x", model="quick")
        assert limited.value.reason == "RATE_LIMITED"
        assert limited.value.retry_after_s is not None
        assert client.list_models()
    with Client(address) as client:
        assert client.health()
        with pytest.raises(Unauthenticated):
            client.list_models()
    with Client(address, api_key=guarded.key("--model", "slow")) as client:
        with pytest.raises(PermissionDenied, match="models/quick"):
            client.generate("x", model="quick")
        assert client.fill(grey(90), grey(255), "x", model="slow", steps=2).images


@pytest.mark.parametrize("protocol", [ProtocolType.CONNECT, ProtocolType.GRPC_WEB])
async def test_rpcs_over_http_ask_for_the_same_keys(
    guarded: Guarded, protocol: ProtocolType
) -> None:
    shown = {"authorization": f"Bearer {guarded.key('--credits', str(COST))}"}
    request = GenerateRequest(prompt="x", model="quick", step_count=10, width_px=64, height_px=64)
    async with (
        ImageServiceClient(guarded.url, protocol=protocol) as images,
        ModelServiceClient(guarded.url, protocol=protocol) as models,
    ):
        events = [one.event async for one in images.generate(request, headers=shown)]
        assert events[-1].WhichOneof("event") == "completed"
        with pytest.raises(ConnectError) as poor:
            [one async for one in images.generate(request, headers=shown)]
        assert poor.value.code is Code.RESOURCE_EXHAUSTED
        assert "google.rpc.QuotaFailure" in {one.type_name for one in poor.value.details}
        assert (await models.list_models(ListModelsRequest(), headers=shown)).models
        with pytest.raises(ConnectError) as stranger:
            await models.list_models(ListModelsRequest())
        assert stranger.value.code is Code.UNAUTHENTICATED
        with pytest.raises(ConnectError) as no_manager:
            await models.unload_model(UnloadModelRequest(name="quick"), headers=shown)
        assert no_manager.value.code is Code.PERMISSION_DENIED


def test_many_at_once_over_both_edges_cannot_overspend(guarded: Guarded) -> None:
    key = guarded.key("--credits", str(5 * COST))
    http = openai_of(guarded, key)

    def ask(number: int) -> bool:
        try:
            if number % 2:
                draw(http)
            else:
                grpc.generate("x", model="quick", steps=10, width=64, height=64)
        except (openai.RateLimitError, InsufficientCredits):
            return False
        return True

    with (
        Client(guarded.server.address, api_key=key) as grpc,
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        assert sum(pool.map(ask, range(40))) == 5
    assert guarded.spent(key) == pytest.approx(5 * COST)


def test_a_request_that_is_run_again_after_its_worker_died_is_charged_once(
    guarded: Guarded,
) -> None:
    key = guarded.key("--credits", "10")
    body = {"prompt": "x", "model": "slow", "stepCount": 40, "widthPx": 64, "heightPx": 64}
    shown = {"authorization": f"Bearer {key}"}
    killed, names = False, []
    with httpx.stream(
        "POST", f"{guarded.url}/darkroom/v1/generate", json=body, headers=shown, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if not killed and steps_done(line) >= 5:
                pid = next(
                    entry["pid"]
                    for entry in reversed(guarded.server.log)
                    if entry.get("event") == "worker ready" and entry["model"] == "slow/1"
                )
                os.kill(pid, signal.SIGKILL)
                killed = True
    assert killed
    assert names[-1] == "done"
    assert guarded.spent(key) == pytest.approx(4 * COST)


def test_a_caller_that_goes_away_is_charged_what_was_done(guarded: Guarded) -> None:
    key = guarded.key("--credits", "10")
    body = {"prompt": "x", "model": "slow", "stepCount": 100, "widthPx": 64, "heightPx": 64}
    shown = {"authorization": f"Bearer {key}"}
    mark = len(guarded.server.log)
    with httpx.stream(
        "POST", f"{guarded.url}/darkroom/v1/generate", json=body, headers=shown, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            if steps_done(line) >= 10:
                break
    guarded.server.until("job stopped", after=mark)
    assert COST <= guarded.spent(key) < 5 * COST


def test_a_revoked_key_is_turned_away_without_a_restart(guarded: Guarded) -> None:
    key = guarded.key()
    client = openai_of(guarded, key)
    draw(client)
    mark = len(guarded.server.log)
    said = darkroom("keys", "revoke", key.split("_")[1], "--keys-file", str(guarded.keys_file))
    assert "is revoked" in said
    guarded.server.until("keys read", after=mark)
    with pytest.raises(openai.AuthenticationError, match="was revoked"):
        draw(client)


def test_what_was_spent_outlives_the_server(guarded: Guarded, tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.toml"
    key = darkroom("keys", "create", "x", "--credits", "9", "--keys-file", str(keys_file))
    models = guarded.keys_file.parent / "models"
    for _ in range(2):
        with serving(models, "--keys-file", str(keys_file)) as server, connected(server):
            url = f"http://127.0.0.1:{server.until('listening')['http_port']}"
            server.until("model", model="quick/1", state="ready")
            draw(openai.OpenAI(base_url=f"{url}/v1", api_key=key))
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(300) == 0
    [row] = json.loads(darkroom("keys", "list", "--json", "--keys-file", str(keys_file)))
    assert row["credits_spent"] == pytest.approx(2 * COST)


def test_a_large_body_without_a_key_is_not_read(guarded: Guarded) -> None:
    body = {"prompt": "x", "image": "A" * (8 << 20)}
    answer = httpx.post(f"{guarded.url}/api/v1/images/generation", json=body)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_keys_get_the_device_by_their_weights(guarded: Guarded) -> None:
    """Of two backlogs that wait for the same step, the key of three times the weight has thrice
    as much done at first.
    """
    count = 12
    heavy, light = guarded.key("--weight", "3"), guarded.key()
    first = guarded.key("--allow", "generate", "--allow", "prioritize")
    ended: list[str] = []

    @contextlib.contextmanager
    def asked(key: str, **more: object) -> Iterator[Iterator[str]]:
        body = {"prompt": "x", "model": "narrow", "widthPx": 64, "heightPx": 64, **more}
        shown = {"authorization": f"Bearer {key}"}
        url = f"{guarded.url}/darkroom/v1/generate"
        with httpx.stream("POST", url, json=body, headers=shown, timeout=300) as answer:
            yield answer.iter_lines()

    def ask(key: str, waits: threading.Semaphore) -> None:
        with asked(key, stepCount=5) as lines:
            next(line for line in lines if line == "event: queued")
            waits.release()
            next(line for line in lines if line == "event: done")
            ended.append(key)

    with concurrent.futures.ThreadPoolExecutor(2 * count) as pool:
        # Goes before all the others, and hangs up once they wait.
        with asked(first, stepCount=500, imageCount=8, priority="PRIORITY_HIGH") as blocking:
            next(line for line in blocking if steps_done(line))
            waiting = {key: threading.Semaphore(0) for key in (light, heavy)}
            asking = [pool.submit(ask, key, waiting[key]) for key in waiting for _ in range(count)]
            for waits in waiting.values():
                for _ in range(count):
                    assert waits.acquire(timeout=300)
        for one in asking:
            one.result()
    assert len(ended) == 2 * count
    # Nine of the first twelve; equal weights would make it six.
    assert ended[:count].count(heavy) >= 8
