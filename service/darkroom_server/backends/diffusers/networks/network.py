"""What evaluates a denoiser: the seam between a family's step and what computes it."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from darkroom_server.backends.base import CompileCounts

#: A family's `gather` as keyword arguments of its module: tensors with their rows first, groups of
#: such tensors, constants shared by the rows, and None for what this model does not take.
Inputs = dict[str, Any]


class Network(Protocol):
    """The denoiser, however it is computed. Called from the worker's one model thread."""

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …]."""
        ...

    def memory_bytes(self) -> int:
        """Weights that it holds besides those of the pipeline."""
        ...

    def end_warm_up(self) -> None:
        """Nothing is compiled from now on."""
        ...

    def compile_counts(self) -> CompileCounts:
        """What it has compiled."""
        ...


def row_count(inputs: Inputs) -> int:
    """Rows of the inputs; the first of them always has rows."""
    return len(next(iter(inputs.values())))


def with_timestep_rows(inputs: Inputs) -> Inputs:
    """The same with a timestep for each row, as a float.

    A family passes a single image's timestep as the stock pipeline does: a scalar of its
    scheduler's type, for which another graph would be needed.
    """
    timestep = inputs["timestep"].to(torch.float32).expand(row_count(inputs))
    return inputs | {"timestep": timestep}


def flat(inputs: Inputs) -> dict[str, torch.Tensor]:
    """All tensors by name, without groups, in the order of the arguments."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in inputs.items():
        match value:
            case None:
                continue
            case dict():
                tensors |= value
            case _:
                tensors[name] = value
    return tensors
