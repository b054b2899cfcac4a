"""Which texts are longer than the text encoders read, by what the pipelines themselves cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from darkroom_server.backends.diffusers.families.flux import FluxStepModel
from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.prompt_cache import PromptCache
from tests.parity.test_sdxl_steps import image_spec
from tests.parity.tiny_flux import random_flux
from tests.parity.tiny_pipelines import random_sdxl


def longest(tokenizer: Any, count: int, word: str) -> str:
    """A text of exactly so many tokens."""
    text = ""
    while len(tokenizer(text + word).input_ids) <= count:
        text += word
    assert len(tokenizer(text).input_ids) == count
    return text


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_sdxl_reads_as_much_as_clip(tmp_path: Path) -> None:
    pipeline = random_sdxl(tmp_path)
    model = SdxlStepModel(pipeline, allowed_schedulers=(), prompts=PromptCache(max_bytes=1 << 20))
    text = longest(pipeline.tokenizer, pipeline.tokenizer.model_max_length, " a")
    assert model.cut_fields(image_spec(prompt=text, negative_prompt=text)) == ()
    spec = image_spec(prompt=text + " a", negative_prompt=text + " a")
    assert model.cut_fields(spec) == ("prompt", "negative_prompt")
    # What is cut makes no difference, so nothing else was read.
    both = [model.encode(image_spec(prompt=text + end)).context for end in (" a", " a a")]
    assert torch.equal(*both)


def test_flux_reads_as_much_as_t5(tmp_path: Path) -> None:
    pipeline = random_flux(tmp_path, guided=False)
    model = FluxStepModel(pipeline, allowed_schedulers=(), prompts=PromptCache(max_bytes=1 << 20))
    text = longest(pipeline.tokenizer_2, model._token_count, "a")
    assert model.cut_fields(image_spec(prompt=text)) == ()
    assert model.cut_fields(image_spec(prompt=text + "a")) == ("prompt",)
