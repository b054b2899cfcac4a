"""Edits of three images by clients that people have.

The fake's grey is its seed, its steps, and i times the grey of image i, mod 256.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tests.compat.test_callers import CALLERS, call, node, python_of
from tests.e2e.gateway.conftest import KLEIN, Service, grey, opened

GREYS = (1, 20, 40)
#: The model's own number of steps, and what three images add to the seed.
STEP_COUNT, ADDED = 4, 1 * 1 + 2 * 20 + 3 * 40
SIZE = "64x64"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{shade}.png" for shade in GREYS]
    for file, shade in zip(found, GREYS, strict=True):
        file.write_bytes(grey(shade))
    return found


@pytest.fixture
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="x", max_retries=0) as found:
        yield found


def shade_of(content: str) -> int:
    picture = opened(content)
    assert picture.size == (64, 64)
    (shade,) = np.unique(np.asarray(picture))
    return int(shade)


@pytest.mark.parametrize("kind", ["bytes", "open-files", "named"])
def test_openai_s_edits_of_three_images(
    client: openai.OpenAI, files: list[Path], kind: str
) -> None:
    images: dict[str, list[Any]] = {
        "bytes": [file.read_bytes() for file in files],
        "open-files": [file.open("rb") for file in files],
        "named": [(file.name, file.read_bytes(), "image/png") for file in files],
    }
    made = client.images.edit(
        model=KLEIN, prompt="x", image=images[kind], size=SIZE, extra_body={"seed": 7}
    )
    assert made.data is not None
    assert shade_of(made.data[0].b64_json or "") == 7 + STEP_COUNT + ADDED


def test_openai_s_edits_of_three_images_as_a_stream(
    client: openai.OpenAI, files: list[Path]
) -> None:
    stream = client.images.edit(
        model=KLEIN,
        prompt="x",
        image=[file.read_bytes() for file in files],
        size=SIZE,
        stream=True,
        extra_body={"seed": 7},
    )
    *_, last = list(stream)
    assert last.type == "image_edit.completed"
    assert shade_of(last.b64_json) == 7 + STEP_COUNT + ADDED


def test_more_than_a_model_takes_are_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model=KLEIN, prompt="x", image=[grey(1)] * 11)
    assert caught.value.param == "image"
    assert "11 images were sent; at most 10" in caught.value.message


def assert_in_order(content: str, seed: str) -> None:
    """The grey is that of three images in their order, with the seed that the server chose."""
    assert shade_of(content) == (int(seed) + STEP_COUNT + ADDED) % 256


def test_litellm(service: Service, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # It asks a site for prices otherwise.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    script = CALLERS / "litellm_edits.py"
    printed = call([python_of("litellm"), script, service.url, KLEIN, *files])
    assert_in_order(*json.loads(printed))


def test_openai_and_the_ai_sdk_for_node(
    service: Service, files: list[Path], tmp_path: Path
) -> None:
    script = tmp_path / "edits.mjs"
    script.write_text((CALLERS / "edits.mjs").read_text())
    printed = node(script, tmp_path, service.url, KLEIN, *map(str, files))
    for content, seed in json.loads(printed).values():
        assert_in_order(content, seed)
