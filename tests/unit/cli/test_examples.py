"""`darkroom examples`: commands to copy."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from click.testing import Result

from darkroom.v1 import model_service_pb2
from tests.integration.clients.scripted_server import ScriptedServer

Darkroom = Callable[..., Result]
Model = model_service_pb2.Model


def test_examples_are_commands_with_the_models_own_prompts(
    server: ScriptedServer, darkroom: Darkroom
) -> None:
    server.models.models = [
        Model(
            name="models/tiny",
            tasks=[Model.TASK_TEXT_TO_IMAGE],
            vocabulary=model_service_pb2.Vocabulary(
                words=["a", "cat"], example_prompts=["a cat", "a cat's cat"]
            ),
        ),
        Model(name="models/filler", tasks=[Model.TASK_FILL]),
    ]
    result = darkroom("examples")
    heading, first, second, _, other, *fills = result.stdout.splitlines()
    assert heading.startswith("# tiny (2 words")
    assert shlex.split(first) == ["darkroom", "generate", "a cat", "--model", "tiny"]
    assert shlex.split(second)[2] == "a cat's cat"
    assert other == "# filler"
    assert all(shlex.split(line)[:4] == ["darkroom", "fill", "IMAGE", "MASK"] for line in fills)


def test_a_server_without_models_says_so(server: ScriptedServer, darkroom: Darkroom) -> None:
    server.models.models = []
    assert darkroom("examples").stdout == "This server has no model yet.\n"
