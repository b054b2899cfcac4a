"""`darkroom models`: what it says of a server's models."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from darkroom.v1 import model_service_pb2
from darkroom_server.cli import models as models_command
from tests.integration.clients.scripted_server import ScriptedServer

Darkroom = Callable[..., Result]
Model = model_service_pb2.Model


@pytest.fixture(autouse=True)
def models(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    server.models.models = [
        Model(
            name="models/tiny",
            tasks=[Model.TASK_TEXT_TO_IMAGE, Model.TASK_FILL],
            state=Model.STATE_READY,
            default_version=2,
            memory_bytes=64 * 2**20,
            versions=[
                model_service_pb2.ModelVersion(version=2, state=Model.STATE_READY),
                model_service_pb2.ModelVersion(version=1, state=Model.STATE_UNLOADED),
            ],
            parameters=[
                model_service_pb2.ParameterSpec(field="width_px", default_value=256),
                model_service_pb2.ParameterSpec(field="height_px", default_value=192),
            ],
        ),
        Model(name="models/broken", state=Model.STATE_FAILED, state_message="[no] weights"),
    ]


def test_the_table_has_a_line_for_each_model(darkroom: Darkroom) -> None:
    result = darkroom("models")
    assert result.exit_code == 0
    heading, tiny, broken = result.stdout.splitlines()
    assert heading.split()[:2] == ["name", "state"]
    assert tiny.split("\t") == [
        *("tiny", "ready", "2*, (1)", "text-to-image, fill", "256x192", "64 MiB", "-"),
    ]
    assert broken.split("\t") == ["broken", "failed: [no] weights", "-", "-", "-", "-", "-"]


def test_json_tells_all_that_is_known(darkroom: Darkroom) -> None:
    tiny, broken = json.loads(darkroom("models", "--json").stdout)
    assert tiny["tasks"] == ["text-to-image", "fill"]
    assert [version["state"] for version in tiny["versions"]] == ["ready", "unloaded"]
    assert broken["default_version"] is None


def test_no_server_exits_with_4(darkroom: Darkroom) -> None:
    assert darkroom("models", "--server", "127.0.0.1:1").exit_code == 4


def test_list_is_what_models_does_alone(darkroom: Darkroom) -> None:
    assert darkroom("models", "list").stdout == darkroom("models").stdout


def test_show_tells_the_versions_and_the_words_that_a_model_knows(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    tiny = server.models.models[0]
    tiny.vocabulary.words.extend(["a", "cat", "red"])
    tiny.vocabulary.example_prompts.append("a red cat")
    result = darkroom("models", "show", "models/tiny")
    assert result.exit_code == 0
    assert "a cat red" in result.stdout.splitlines()
    assert "  a red cat" in result.stdout.splitlines()
    assert result.stdout.splitlines()[1].split()[:3] == ["tiny", "2*", "ready"]
    found = json.loads(darkroom("models", "show", "models/tiny", "--json").stdout)
    assert found["vocabulary"] == ["a", "cat", "red"]
    assert found["example_prompts"] == ["a red cat"]


def test_show_says_nothing_of_words_where_any_text_is_read(darkroom: Darkroom) -> None:
    assert "taught" not in darkroom("models", "show", "models/tiny").stdout


def test_show_of_a_model_that_is_not_there_says_so(darkroom: Darkroom) -> None:
    assert darkroom("models", "show", "nobody").exit_code != 0


@pytest.fixture
def load_reports(server: ScriptedServer) -> None:
    P = model_service_pb2.LoadProgress
    server.models.load_reports = [
        model_service_pb2.LoadModelResponse(model=server.models.models[0], progress=progress)
        for progress in (
            P(stage=P.STAGE_STARTING, total_bytes=100),
            P(stage=P.STAGE_WEIGHTS, loaded_bytes=50, total_bytes=100),
            P(stage=P.STAGE_WARMUP, completed_warmup_count=1, total_warmup_count=2),
            P(stage=P.STAGE_DONE),
        )
    ]


@pytest.mark.usefixtures("load_reports")
def test_load_tells_its_stages_and_then_the_versions(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    result = darkroom("models", "load", "tiny", "--version", "2", "--evict-idle", "--force")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        *("starting a worker", "reading weights", "warming up, 1 of 2", "ready"),
    ]
    assert [line.split()[:3] for line in result.stdout.splitlines()[1:]] == [
        ["tiny", "2*", "ready"],
        ["tiny", "1", "not"],
    ]
    assert server.models.requests == [
        model_service_pb2.LoadModelRequest(
            name="tiny", version="2", evict_idle=True, force_reload=True
        )
    ]


def test_a_load_that_is_refused_says_why(darkroom: Darkroom) -> None:
    result = darkroom("models", "load", "tiny")
    assert (result.exit_code, result.stderr) == (4, "darkroom: not explicit\n")


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        pytest.param(
            ["unload", "tiny"], model_service_pb2.UnloadModelRequest(name="tiny"), id="unload"
        ),
        pytest.param(
            ["unload", "tiny", "--version", "1", "--drain", "1.5"],
            model_service_pb2.UnloadModelRequest(
                name="tiny", version="1", drain_duration={"seconds": 1, "nanos": 500_000_000}
            ),
            id="drain",
        ),
        pytest.param(
            ["label", "tiny", "stable", "1"],
            model_service_pb2.SetVersionLabelRequest(name="tiny", label="stable", version="1"),
            id="label",
        ),
        pytest.param(
            ["label", "tiny", "canary", "2", "--traffic", "5"],
            model_service_pb2.SetVersionLabelRequest(
                name="tiny", label="canary", version="2", traffic_percent=5
            ),
            id="traffic",
        ),
        pytest.param(
            ["label", "tiny", "canary", "--delete"],
            model_service_pb2.DeleteVersionLabelRequest(name="tiny", label="canary"),
            id="delete",
        ),
    ],
)
def test_what_is_asked_for(
    server: ScriptedServer, darkroom: Darkroom, arguments: list[str], request_: object
) -> None:
    result = darkroom("models", *arguments, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    assert server.models.requests == [request_]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["label", "tiny", "canary"], id="label-without-a-version"),
        pytest.param(["label", "tiny", "canary", "2", "--delete"], id="label-set-and-deleted"),
        pytest.param(["--json", "load", "tiny"], id="an-option-before-the-command"),
        pytest.param(["lod", "tiny"], id="no-such-command"),
    ],
)
def test_wrong_usage(darkroom: Darkroom, arguments: list[str]) -> None:
    assert darkroom("models", *arguments).exit_code == 2


def test_watch_shows_every_version_until_it_is_interrupted(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def interrupt_the_second_time(interval_s: float) -> None:
        looks.append(interval_s)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(models_command.time, "sleep", interrupt_the_second_time)
    result = darkroom("models", "watch", "--interval", "3")
    assert (result.exit_code, looks) == (0, [3.0, 3.0])
    # Nothing changed between the looks, so that it is told once.
    heading, *lines = result.stdout.splitlines()
    assert heading.split("\t")[:3] == ["model", "version", "state"]
    assert [line.split("\t")[:3] for line in lines] == [
        ["tiny", "2*", "ready"],
        ["tiny", "1", "not loaded"],
    ]


def test_watch_in_a_pipe_tells_what_has_changed(
    server: ScriptedServer, darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = server.models.models[0].versions

    def load_then_interrupt(_interval_s: float) -> None:
        if versions[1].state == Model.STATE_READY:
            raise KeyboardInterrupt
        versions[1].state = Model.STATE_READY

    monkeypatch.setattr(models_command.time, "sleep", load_then_interrupt)
    lines = darkroom("models", "watch").stdout.splitlines()[1:]
    assert [line.split("\t")[1:3] for line in lines] == [
        ["2*", "ready"],
        ["1", "not loaded"],
        ["1", "ready"],
    ]


def test_watch_fails_in_one_line(darkroom: Darkroom) -> None:
    result = darkroom("models", "watch", "--tls-ca", "nowhere.pem")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["darkroom: nowhere.pem: No such file or directory"]


@pytest.mark.parametrize("half", ["--client-certificate", "--client-key"])
def test_half_of_a_client_s_certificate_is_refused(darkroom: Darkroom, half: str) -> None:
    result = darkroom("models", "list", half, "one.pem")
    assert result.exit_code == 2
    assert "go together; give both" in result.stderr
