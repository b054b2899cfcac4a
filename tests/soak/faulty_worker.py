"""What a worker's model fails of, put in on purpose: imported by `sitecustomize` in every process.

A prompt `memory at STAGE` makes that stage of the fake model raise as the machine does that has no
memory left, and `device memory at STAGE` as torch does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from darkroom_server.backends.fake import FakeStepModel, FakeTrajectory

STAGES = (
    *("encode", "begin", "gather", "denoise", "scatter", "snapshot", "decode", "painter"),
    *("batch_key", "rows", "evaluations"),
)


class OutOfMemoryError(RuntimeError):
    """Called as torch calls its own."""


def _prompts(value: Any) -> list[str]:
    """The prompts of a spec, a trajectory, or of some."""
    if isinstance(value, FakeTrajectory):
        return [value.spec.prompt]
    if isinstance(value, list | tuple):
        return [prompt for one in value for prompt in _prompts(one)]
    prompt = getattr(value, "prompt", None)
    return [prompt] if isinstance(prompt, str) else []


def _failing(stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def attempted(self: FakeStepModel, first: Any, *arguments: Any, **options: Any) -> Any:
        prompts = _prompts(first)
        if f"memory at {stage}" in prompts:
            raise MemoryError
        if f"device memory at {stage}" in prompts:
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return method(self, first, *arguments, **options)

    return attempted


for _stage in STAGES:
    setattr(FakeStepModel, _stage, _failing(_stage, getattr(FakeStepModel, _stage)))
