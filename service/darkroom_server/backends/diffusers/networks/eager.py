"""A denoiser run by torch as the library wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.diffusers.networks.network import Inputs


class EagerNetwork:
    """Calls the module. `constants` are arguments of every call that gives no others."""

    def __init__(self, module: torch.nn.Module, constants: Mapping[str, Any]) -> None:
        self._module = module
        self._constants = dict(constants)

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …], exactly those of the stock pipeline."""
        arguments = self._constants | inputs
        predicted: torch.Tensor = self._module(**arguments, return_dict=False)[0]
        return predicted

    def memory_bytes(self) -> int:
        """None: the weights are the pipeline's."""
        return 0

    def end_warm_up(self) -> None:
        """Nothing was to be compiled."""

    def compile_counts(self) -> CompileCounts:
        """Nothing is compiled."""
        return CompileCounts()
