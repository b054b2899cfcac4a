"""What a server of the embedded model lets be scraped."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.serving import Server, connected, serving
from darkroom_server.telemetry.metric_list import METRICS, SWAPS

REPOSITORY = Path(__file__).parents[2] / "model_repo"
FLAGS = ("--model-control", "explicit", "--load-model", "tiny-sdxl")
WAIT_S = 300.0
STEP_COUNT = 3


def scraped(server: Server) -> dict[str, float]:
    """Every value of the embedded model, and of the calls that were for it, by name."""
    port = server.until("listening")["http_port"]
    response = httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.labels.get("model") == "tiny-sdxl"
    }


def told(server: Server, *, step_count: int) -> dict[str, float]:
    """What is scraped once a worker has told of so many steps."""
    values, until_s = scraped(server), time.monotonic() + WAIT_S
    while values["darkroom_steps_total"] < step_count and time.monotonic() < until_s:
        time.sleep(0.1)
        values = scraped(server)
    return values


def asked_over_http(server: Server) -> None:
    """One call that the model's limits refuse: its route and its model are counted, no step is."""
    port = server.until("listening")["http_port"]
    body = {"inputs": "a red circle", "parameters": {"num_inference_steps": 151}}
    answer = httpx.post(f"http://127.0.0.1:{port}/models/tiny-sdxl", json=body)
    assert answer.status_code == httpx.codes.BAD_REQUEST
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    labels = 'method="POST",route="/models/{model:path}"'
    assert f"darkroom_http_request_seconds_count{{{labels}}} 1.0" in text


def test_two_requests_of_one_text_are_seen_in_every_metric() -> None:
    with serving(REPOSITORY, *FLAGS) as server, connected(server) as client:
        asked_over_http(server)
        before = scraped(server)
        pictures = [
            client.generate("a red circle", model="tiny-sdxl", seed=seed, steps=STEP_COUNT).images[
                0
            ]
            for seed in (1, 2)
        ]
        values = told(server, step_count=2 * STEP_COUNT)
        # What libraries print when they are imported is in no log.
        assert [entry for entry in server.log if "level" not in entry] == []
    named = {name.removesuffix("_count").removesuffix("_sum") for name in values}
    # Of swaps there is no series before one.
    listed = (metric for metric in METRICS if metric is not SWAPS)
    of_models = {metric.name for metric in listed if "model" in metric.labels}
    assert of_models <= named
    assert values["darkroom_http_requests_total"] == 1
    assert values["darkroom_requests_total"] == 2
    assert values["darkroom_queue_seconds_count"] == 2
    assert values["darkroom_step_seconds_count"] > before["darkroom_step_seconds_count"]
    assert values["darkroom_model_memory_bytes"] > 1_000_000
    assert values["darkroom_steps_total"] == 2 * STEP_COUNT
    # With guidance an image takes two rows.
    assert values["darkroom_step_rows_sum"] == 2 * 2 * STEP_COUNT
    assert values["darkroom_step_capacity_rows_total"] > values["darkroom_step_rows_sum"]
    hits, misses = (f"darkroom_prompt_cache_{name}_total" for name in ("hits", "misses"))
    # The second request's texts were those of the first.
    assert values[hits] - before[hits] >= 1, "prompt_cache_hits_total"
    assert values[misses] >= 1, "prompt_cache_misses_total"
    assert values["darkroom_prompt_cache_bytes"] > 0
    assert values["darkroom_images_total"] == 2
    assert values["darkroom_image_bytes_total"] == sum(len(one.content) for one in pictures)
    assert values["darkroom_worker_restarts_total"] == 0


def test_a_prompt_cache_without_room_keeps_no_text() -> None:
    with serving(REPOSITORY, *FLAGS, "--prompt-cache-bytes", "0") as server:
        with connected(server) as client:
            for seed in (1, 2):
                client.generate("a red circle", model="tiny-sdxl", seed=seed, steps=1)
        values = told(server, step_count=2)
    assert values["darkroom_prompt_cache_hits_total"] == 0
    assert values["darkroom_prompt_cache_bytes"] == 0
