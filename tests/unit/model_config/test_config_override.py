from __future__ import annotations

import json

import pytest

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_file import read_config
from darkroom_server.model_config.config_override import ConfigOverride

FILE = b'backend: BACKEND_FAKE aliases: "a" max_queue_size: 7 defaults { step_count: 9 }'


def over(fields: object, content: bytes = FILE) -> bytes:
    return ConfigOverride(json.dumps(fields), "m").over(content)


def test_fields_that_are_sent_replace_those_of_the_file_and_others_stay() -> None:
    problems = ProblemLog("m")
    sent = {"defaults": {"step_count": 3}, "aliases": [], "name": "m"}
    config = read_config(over(sent), shown="m", problems=problems)
    assert problems.problems == []
    assert config is not None
    assert config.settings.defaults.step_count == 3
    assert config.settings.aliases == ()
    assert config.settings.max_queue_size == 7


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"platform": "darkroom_fake", "backend": "darkroom", "input": [], "output": []},
        {"max_batch_size": 0, "parameters": {"tasks": {"string_value": "fill"}}},
        {"model_transaction_policy": {"decoupled": False}},
    ],
)
def test_what_triton_s_clients_send_back_of_a_model_changes_nothing(fields: object) -> None:
    before = read_config(FILE, shown="m", problems=ProblemLog("m"))
    after = read_config(over(fields), shown="m", problems=ProblemLog("m"))
    assert before is not None
    assert after is not None
    assert after.settings == before.settings


def test_instance_groups_lose_the_names_that_triton_gives_them() -> None:
    text = over({"instance_group": [{"name": "m_0", "count": 2, "kind": "KIND_CPU"}]})
    assert b"m_0" not in text
    assert b"count: 2" in text


def test_a_file_that_cannot_be_read_is_left_to_those_who_say_why() -> None:
    assert over({"defaults": {"step_count": 3}}, b"colour: 1") == b"colour: 1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON|more than"),
        ("[]", "no JSON object"),
        ('{"colour": 1}', 'no field named "colour"'),
        ('{"defaults": {"step_count": "x"}}', "no configuration"),
        ('{"instance_group": [7]}', "no configuration"),
        ('{"name": "other"}', "another than that of the model"),
        ('{"name": ["m"]}', "another than that of the model"),
        ('{"license": "' + "x" * 70_000 + '"}', "more than"),
    ],
)
def test_what_is_wrong_with_it_is_said(text: str, told: str) -> None:
    with pytest.raises(InvalidParameter, match=told) as caught:
        ConfigOverride(text, "m")
    assert caught.value.field == "config"


@pytest.mark.parametrize("name", ["prompt_upsampling", "promptUpsampling"])
def test_a_load_names_no_program_that_the_server_runs(name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"only be set in config\.pbtxt"):
        over({name: {"command": ["/bin/true"]}})
