"""What a config may say of the program that rewrites prompts."""

from __future__ import annotations

import pytest

from darkroom_server.domain.prompt_upsampling import PromptUpsampling
from tests.unit.repository.builders import FLUX_INDEX, Repository


def complaints(repository: Repository, said: str) -> list[str]:
    repository.pipeline("m", index=FLUX_INDEX)
    repository.config("m", f'license: "MIT"\nprompt_upsampling {{ {said} }}')
    return repository.complaints()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param('command: "a" url: "http://h/"', "only one can be asked", id="two-programs"),
        pytest.param('command: ""', ":2:30: error: the command's name is empty", id="no-name"),
        pytest.param('url: "h:9000"', ":2:26: error: 'h:9000' is no http", id="no-scheme"),
        pytest.param('url: "file:///etc/passwd"', "is no http or https URL", id="file"),
        pytest.param('url: "http://"', "is no http or https URL", id="no-host"),
        pytest.param('url: "http://h:99999/"', "is no http or https URL", id="port"),
        pytest.param('command: "a" timeout_s: -1', "is not above 0 and at most 120", id="negative"),
        pytest.param('command: "a" timeout_s: 121', "121 s is not above 0", id="too-long"),
        pytest.param('command: "a" timeout_s: nan', "nan s is not above 0", id="nan"),
    ],
)
def test_what_cannot_be_asked_is_told(repository: Repository, said: str, expected: str) -> None:
    [problem] = complaints(repository, said)
    assert expected in problem


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("", PromptUpsampling()),
        ('command: ["a", "-b"]', PromptUpsampling(("a", "-b"), timeout_s=10.0)),
        ('url: "https://h/x" timeout_s: 2.5', PromptUpsampling(url="https://h/x", timeout_s=2.5)),
    ],
)
def test_what_is_said_reaches_the_model(
    repository: Repository, said: str, wanted: PromptUpsampling
) -> None:
    assert complaints(repository, said) == []
    [model] = repository.scan().models
    assert model.info.prompt_upsampling == wanted
