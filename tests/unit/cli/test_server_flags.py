"""The flags of `darkroom serve` are those of the settings."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from darkroom_server.cli.server_flags import server_flags
from darkroom_server.config import ServerConfig

ARGUMENTS = inspect.signature(server_flags).parameters
NOTHING: dict[str, Any] = dict.fromkeys(ARGUMENTS)


def test_what_was_not_given_is_left_to_the_other_places() -> None:
    assert set(server_flags(**NOTHING).values()) == {None}
    assert set(server_flags(**NOTHING).keys()) <= set(ServerConfig.model_fields)
    assert server_flags(**NOTHING | {"alias": [], "load_model": []})["load_models"] is None


@pytest.mark.parametrize(
    ("argument", "value", "setting", "read"),
    [
        pytest.param("grpc_port", 0, "grpc_port", 0, id="zero"),
        pytest.param("memory_check", False, "memory_check", False, id="turned-off"),
        pytest.param("repository_poll", 2.0, "repository_poll_s", 2.0, id="seconds"),
        pytest.param("alias", ["a=b", "c=d"], "aliases", {"a": "b", "c": "d"}, id="pairs"),
        pytest.param("load_model", ["a", "b"], "load_models", ["a", "b"], id="list"),
        pytest.param("keys_file", Path("k"), "keys_file", Path("k"), id="path"),
    ],
)
def test_a_flag_is_its_setting(argument: str, value: Any, setting: str, read: Any) -> None:
    assert server_flags(**NOTHING | {argument: value})[setting] == read
