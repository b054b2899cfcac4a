"""`tritonclient` and `kserve` as they are, against a server with an embedded model."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from bench.serving import Server, connected, serving
from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_client import Client
from tests.compat.test_callers import CALLERS, call, python_of
from tests.e2e.gateway.conftest import grey

REAL = "tiny-sdxl"
EMBEDDED = Path(__file__).parents[2] / "model_repo" / REAL
CONFIGS = {
    "paint": 'aliases: "brush/paint" version_policy { all {} } '
    'version_labels { key: "canary" value: 2 }',
    "slow": "fake { step_s: 0.05 }",
    "spare": "",
}
VERSIONS = {"paint": ("1", "2"), "slow": ("1",), "spare": ("1",)}
NO_MODEL = "no model 'nobody'; known models: paint, slow, spare, tiny-sdxl"


@dataclass(frozen=True, slots=True)
class Served:
    server: Server
    own: Client
    http: httpx.Client
    url: str
    pictures: tuple[Path, Path]

    def ask(self, client: str, caller: str, address: str) -> dict[str, Any]:
        """What the calls of a caller came to, by their names."""
        command = [python_of(client), CALLERS / caller, address, REAL, *self.pictures]
        found: dict[str, Any] = json.loads(call(command).splitlines()[-1])
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """After all tests it still serves, and met no bug."""
    python_of("tritonclient")
    folder = tmp_path_factory.mktemp("triton")
    repository = folder / "models"
    for name, config in CONFIGS.items():
        for version in VERSIONS[name]:
            (repository / name / version).mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(f"backend: BACKEND_FAKE\n{config}\n")
    shutil.copytree(EMBEDDED, repository / REAL, ignore=shutil.ignore_patterns("1"))
    pictures = folder / "picture.png", folder / "mask.png"
    for picture, shade in zip(pictures, (90, 255), strict=True):
        picture.write_bytes(grey(shade))
    flags = ("--model-control", "explicit", "--load-model", "*", "--metrics-compat", "triton")
    with serving(repository, *flags) as server, connected(server) as client:
        server.until_ready(*CONFIGS, REAL)
        server.until("ready")
        url = f"127.0.0.1:{server.until('listening')['http_port']}"
        with httpx.Client(base_url=f"http://{url}", timeout=240) as http:
            yield Served(server, client, http, url, pictures)
            assert http.get("/v2/health/ready").json() == {"ready": True}
        assert "unhandled error" not in {entry.get("event") for entry in server.log}


@pytest.fixture(scope="module")
def over_grpc(served: Served) -> dict[str, Any]:
    return served.ask("tritonclient", "triton_grpc.py", served.server.address)


@pytest.fixture(scope="module")
def over_http(served: Served) -> dict[str, Any]:
    return served.ask("tritonclient", "triton_http.py", served.url)


@pytest.fixture(params=["grpc", "http"])
def told(
    request: pytest.FixtureRequest, over_grpc: dict[str, Any], over_http: dict[str, Any]
) -> dict[str, Any]:
    """What both clients have in common."""
    return over_grpc if request.param == "grpc" else over_http


@pytest.fixture(scope="module")
def drawn(served: Served) -> str:
    """The bytes that Darkroom's own client is given of the request that all callers make."""
    image = served.own.generate("a red circle", model="paint", seed=7).images[0]
    return hashlib.sha256(image.content).hexdigest()


def test_health_knows_versions_labels_and_aliases(told: dict[str, Any]) -> None:
    assert told["health"] == [True, True, True, True, True, True, False, False]


def test_metadata_and_config_name_the_tensors(told: dict[str, Any]) -> None:
    server, model = told["metadata"]["server"], told["metadata"]["model"]
    assert server["name"] == "darkroom"
    assert {"statistics", "model_repository", "trace", "logging"} <= set(server["extensions"])
    assert model["versions"] == ["1", "2"]
    inputs = {one["name"]: one["datatype"] for one in model["inputs"]}
    assert inputs["PROMPT"] == "BYTES"
    assert (inputs["SEED"], inputs["GUIDANCE_SCALE"]) == ("UINT64", "FP32")
    assert [one["name"] for one in model["outputs"]] == ["IMAGE", "SEED", "PREVIEW"]
    config = told["config"]
    needed = [one["name"] for one in config["input"] if not one.get("optional")]
    assert (config["name"], needed) == ("paint", ["PROMPT"])
    assert {one["data_type"] for one in config["output"]} == {"TYPE_STRING", "TYPE_UINT64"}
    assert config["parameters"]["aliases"]["string_value"] == "brush/paint"


def test_the_index_has_every_version(told: dict[str, Any]) -> None:
    found = [(one["name"], one["version"], one["state"]) for one in told["index"]]
    wanted = [("paint", "1"), ("paint", "2"), ("slow", "1"), ("spare", "1"), (REAL, "2")]
    assert found == [(*one, "READY") for one in wanted]


def test_an_answer_has_the_bytes_that_others_are_given(told: dict[str, Any], drawn: str) -> None:
    infer = told["infer"]
    assert (infer["id"], infer["model"], infer["version"]) == ("order-1", "paint", "2")
    assert (infer["outputs"], infer["seeds"]) == (["IMAGE", "SEED"], [7])
    assert infer["sha256"] == told["async_infer"]["sha256"] == [drawn]
    assert told["aio"]["infer"]["sha256"] == [drawn]
    assert (told["aio"]["ready"], told["aio"]["name"]) == (True, "paint")
    assert infer["parameters"]["media_type"] == "image/png"


def test_parameters_are_inputs_also_as_text(told: dict[str, Any], served: Served) -> None:
    same = served.own.generate(
        "x", model="paint", version="2", seed=7, steps=3, guidance_scale=7.1, width=64, height=64
    )
    wanted = hashlib.sha256(same.images[0].content).hexdigest()
    assert told["infer_by_parameters"]["sha256"] == [wanted]


def test_fills_by_image_and_mask(told: dict[str, Any], served: Served) -> None:
    image, mask = (path.read_bytes() for path in served.pictures)
    same = served.own.fill(image, mask, "a red circle", model="paint", seed=7)
    wanted = hashlib.sha256(same.images[0].content).hexdigest()
    assert told["infer_fills"]["sha256"] == [wanted]


def test_grpc_takes_every_input_and_the_outputs_in_the_order_asked_for(
    over_grpc: dict[str, Any], served: Served
) -> None:
    found = over_grpc["infer_all_inputs"]
    assert (found["outputs"], found["seeds"], found["version"]) == (["SEED", "IMAGE"], [7, 8], "1")
    same = served.own.generate(
        "a red circle",
        model="paint",
        version="1",
        seed=7,
        negative_prompt="blue",
        count=2,
        width=64,
        height=48,
        steps=3,
        guidance_scale=7.1,
        format="jpeg",
    )
    wanted = [hashlib.sha256(image.content).hexdigest() for image in same.images]
    assert found["sha256"] == wanted
    assert found["parameters"]["media_type"] == "image/jpeg"
    assert len(over_grpc["infer_from_an_image"]["sha256"]) == 1


def test_http_mixes_json_and_raw_tensors(over_http: dict[str, Any], drawn: str) -> None:
    [text] = over_http["infer_json"]["texts"]
    assert hashlib.sha256(base64.b64decode(text)).hexdigest() == drawn
    mixed = over_http["infer_mixed"]
    assert (mixed["outputs"], mixed["seeds"], mixed["version"]) == (["SEED", "IMAGE"], [7, 8], "2")
    assert len(mixed["sha256"]) == 2


def test_errors_have_their_status_and_name_what_the_caller_wrote(
    over_grpc: dict[str, Any], over_http: dict[str, Any]
) -> None:
    for told, missing, wrong in (
        (over_grpc["errors"], "StatusCode.NOT_FOUND", "StatusCode.INVALID_ARGUMENT"),
        (over_http["errors"], "404", "400"),
    ):
        assert told["model"] == [missing, NO_MODEL]
        assert told["version"][0] == missing
        assert told["value"] == [wrong, "STEPS: 0 is not between 1 and 500"]
        assert told["input"][0] == wrong
        assert told["input"][1].startswith("LENS: no such input; known: PROMPT, ")
        assert told["metadata"] == [missing, NO_MODEL]
    assert over_http["errors"]["config"][0] == "404"
    found = over_grpc["errors"]
    assert found["parameter"][1].startswith("lens: ")
    assert found["two"][1].startswith("PROMPT: the shape [2] has 2 elements and 1 is taken")
    assert found["output"][1] == "X: no such output; known: IMAGE, SEED, PREVIEW"
    assert found["timeout"][0] == "StatusCode.DEADLINE_EXCEEDED"


def test_a_stream_has_previews_and_images_and_says_which_is_the_last(
    over_grpc: dict[str, Any],
) -> None:
    plain, empty = over_grpc["stream"]["plain"], over_grpc["stream"]["empty"]
    for came in (plain, empty):
        last = [one["parameters"]["triton_final_response"] for one in came]
        assert last == [False] * (len(came) - 1) + [True]
        assert {one["id"] for one in came} == {"s1"}
        images = [one for one in came if one["outputs"] == ["IMAGE", "SEED"]]
        assert sorted(one["seeds"][0] for one in images) == [7, 8]
    assert ["PREVIEW"] in [one["outputs"] for one in plain]
    assert plain[-1]["outputs"] == ["IMAGE", "SEED"]
    assert empty[-1]["outputs"] == []


def test_an_error_in_a_stream_ends_no_other_request(over_grpc: dict[str, Any]) -> None:
    came = over_grpc["stream_of_many"]
    assert [one["error"] for one in came if "error" in one] == [NO_MODEL]
    assert sorted(one["id"] for one in came if "id" in one) == [f"r{at}" for at in range(5)]
    [ended] = over_grpc["stream_that_ends_on_an_error"]
    assert ended["error"] == f"[StatusCode.NOT_FOUND] {NO_MODEL}"
    stream = over_grpc["aio"]["stream"]
    assert sorted((one["id"], one["seeds"]) for one in stream) == [("0", [0]), ("1", [1])]


def test_statistics_count_requests(told: dict[str, Any]) -> None:
    [before], [after] = told["statistics"]["before"], told["statistics"]["after"]
    assert (after["name"], after["version"]) == ("paint", "2")
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        counts = [int(one["inference_stats"][name]["count"]) for one in (before, after)]
        assert counts[1] - counts[0] == 1, name
    assert int(after["inference_count"]) - int(before["inference_count"]) == 1
    assert int(after["execution_count"]) - int(before["execution_count"]) == 1
    assert int(after["last_inference"]) >= int(before["last_inference"]) > 0
    assert told["statistics"]["all"] == ["paint", "paint", "slow", "spare", REAL]


def test_loads_and_unloads(told: dict[str, Any]) -> None:
    control = told["control"]
    assert (control["gone"], control["back"]) == (False, True)
    assert control["nobody"][1] == NO_MODEL
    config = control["config"]
    usual = config["steps"][0]
    assert config["steps"] == [usual, "3", "3", usual]
    assert usual != "3"
    assert config["seeds"] == [7]
    assert config["wrong"][1].startswith("config: spare/config.pbtxt with the fields sent")
    assert "step_count" in config["wrong"][1]
    assert config["unknown"][1].startswith("config: is no configuration: ")


def test_a_model_may_be_named_where_kserve_s_messages_have_it(served: Served) -> None:
    method = "/inference.GRPCInferenceService/RepositoryModel"
    with grpc.insecure_channel(served.server.address) as channel:
        for verb, request, answer in (
            ("Unload", pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse),
            ("Load", pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse),
        ):
            call = channel.unary_unary(method + verb, request.SerializeToString, answer.FromString)
            assert call(request(repository_name="spare"), timeout=240).model_name == "spare"


def test_log_and_trace_settings_are_told_and_changed(
    over_grpc: dict[str, Any], over_http: dict[str, Any], served: Served
) -> None:
    log, quiet = over_http["settings"]["log"], over_http["settings"]["quiet"]
    assert (log["log_info"], quiet["log_info"], quiet["log_warning"]) == (True, False, True)
    assert over_http["settings"]["traced"]["trace_rate"] == "5"
    assert over_http["settings"]["cleared"] == over_http["settings"]["trace"]
    assert over_http["settings"]["unknown"][0] == "400"
    settings = over_grpc["settings"]
    assert settings["quiet"]["log_info"] == {"bool_param": False}
    assert settings["trace"]["trace_level"] == {"value": ["OFF"]}
    assert settings["traced"]["trace_level"] == {"value": ["TIMESTAMPS"]}
    assert settings["cleared"] == settings["trace"]
    assert settings["unknown"][1].startswith("log_colour: no such setting; known: ")
    traces = [entry for entry in served.server.log if entry.get("event") == "trace"]
    assert [entry["model"] for entry in traces] == ["paint/2"]
    assert traces[0]["total_ms"] >= traces[0]["queue_ms"]


def test_shared_memory_and_classes_are_refused_with_the_reason(
    over_grpc: dict[str, Any], over_http: dict[str, Any]
) -> None:
    for told, status in ((over_grpc, "StatusCode.UNIMPLEMENTED"), (over_http, "501")):
        assert [one[0] for one in told["shared_memory"]] == [status] * 6
        assert {one[1].partition(":")[0] for one in told["shared_memory"]} == {
            "Shared memory is not offered"
        }
        reasons = ["PROMPT: Shared memory", "IMAGE: Shared memory", "IMAGE: Classification"]
        for (code, message), reason in zip(told["not_offered"], reasons, strict=True):
            assert code == status
            assert message.startswith(f"{reason} is not offered")


def test_kserve(served: Served, drawn: str) -> None:
    command = [python_of("kserve"), CALLERS / "kserve_client.py"]
    found = json.loads(
        call([*command, f"http://{served.url}", served.server.address]).splitlines()[-1]
    )
    for told in (found["rest"], found["grpc"]):
        health = [told[name] for name in ("live", "ready", "model", "nobody")]
        assert health == [True, True, True, False]
        assert told["infer"] == {"id": "k1", "model": "paint", "sha256": [drawn], "seeds": [7]}
        assert NO_MODEL in told["error"]


def test_protocols_at_the_same_time_give_equal_bytes(
    served: Served, over_grpc: dict[str, Any], over_http: dict[str, Any]
) -> None:
    """Of the embedded model: by Triton's clients alone, and then by four dialects at once."""
    wanted = over_grpc["real_model"]["sha256"]
    assert over_http["real_model"]["sha256"] == wanted
    made: dict[str, list[str]] = {}
    body = {"PROMPT": "a red circle", "SEED": 11, "STEPS": 3}
    openai = {"prompt": "a red circle", "seed": 11, "steps": 3, "model": REAL}

    def triton() -> str:
        answer = served.http.post(f"/v2/models/{REAL}/generate", json=body).json()
        return str(answer["IMAGE"])

    def openai_s() -> str:
        answer = served.http.post(
            "/v1/images/generations", json=openai | {"response_format": "b64_json"}
        ).json()
        return str(answer["data"][0]["b64_json"])

    def own() -> bytes:
        image = served.own.generate("a red circle", model=REAL, seed=11, steps=3).images[0]
        return image.content

    def stream() -> str:
        path = f"/v2/models/{REAL}/generate_stream"
        text = served.http.post(path, json=body).text
        [event] = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        return str(event["IMAGE"])

    def keep(work: Any) -> None:
        content = work()
        raw = content if isinstance(content, bytes) else base64.b64decode(content)
        made[work.__name__] = [hashlib.sha256(raw).hexdigest()]

    works = (triton, openai_s, own, stream)
    threads = [threading.Thread(target=keep, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == {work.__name__: wanted for work in works}


def test_generate_takes_plain_json_and_its_stream_has_previews(served: Served) -> None:
    body = {"prompt": "x", "id": "g1", "parameters": {"steps": 2, "preview_interval_steps": 1}}
    plain = served.http.post("/v2/models/paint/versions/1/generate", json=body).json()
    assert (plain["id"], plain["model_version"]) == ("g1", "1")
    answer = served.http.post("/v2/models/brush/paint/generate_stream", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert "PREVIEW" in events[0]
    assert "IMAGE" in events[-1]
    assert events[-1]["parameters"]["triton_final_response"] is True
    wrong = served.http.post("/v2/models/paint/generate", json={"prompt": ""})
    assert (wrong.status_code, wrong.json().keys()) == (400, {"error"})


def test_metrics_have_triton_s_names(served: Served, over_grpc: dict[str, Any]) -> None:
    del over_grpc  # it has asked for what is counted

    def value(text: str, name: str, *labels: str) -> float:
        lines = [line for line in text.splitlines() if line.startswith(name + "{")]
        return sum(float(line.split()[-1]) for line in lines if all(one in line for one in labels))

    names = ("nv_inference_request_success", "nv_inference_count", "nv_inference_exec_count")
    of_paint = ('model="paint"', 'version="1"')
    before = served.http.get("/metrics").text
    body = {"prompt": "x", "n": 2}
    assert served.http.post("/v2/models/paint/versions/1/generate", json=body).is_success
    after = served.http.get("/metrics").text
    grown = [value(after, name, *of_paint) - value(before, name, *of_paint) for name in names]
    assert grown[:2] == [1, 2]
    assert 0 < grown[2] <= 2
    for stage in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert f"nv_inference_{stage}_duration_us{{" in after
    assert value(after, "nv_inference_request_failure", 'model="slow"', 'reason="') >= 1
    assert "nv_inference_pending_request_count{" in after
