"""What is run by the runtimes of exported graphs: a denoiser, and the decoder of a VAE."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.diffusers.networks.network import Inputs, flat, with_timestep_rows

#: Arrays by the name of a graph's input.
Arrays = dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]


class Graph(Protocol):
    """A graph with weights of its own in its runtime; called from the worker's one model thread."""

    @property
    def input_names(self) -> frozenset[str]:
        """Names of the arrays that `run` takes."""
        ...

    def run(self, arrays: Arrays) -> torch.Tensor:
        """The graph's one output, FP32 [rows, …]. Blocking."""
        ...


class ExportedNetwork:
    """An exported denoiser: any number of rows and any size, and nothing to compile."""

    def __init__(self, graph: Graph, *, memory_bytes: int) -> None:
        self._graph = graph
        self._memory_bytes = memory_bytes

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …], FP32."""
        tensors = flat(with_timestep_rows(inputs))
        # What an exporter found unused is no input of the graph.
        return self._graph.run(
            {name: tensors[name].contiguous().numpy() for name in self._graph.input_names}
        )

    def memory_bytes(self) -> int:
        """Its weights, and a decoder's that was exported with it, by the size of the files."""
        return self._memory_bytes

    def end_warm_up(self) -> None:
        """Nothing that takes long is left to be compiled."""

    def compile_counts(self) -> CompileCounts:
        """Nothing is compiled by torch."""
        return CompileCounts()


class ExportedDecoder:
    """An exported VAE's decoder, for one image of any size."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        (self._input_name,) = graph.input_names

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels [1, 3, height, width], -1 to 1, of scaled latents [1, C, h, w]."""
        return self._graph.run({self._input_name: latents.contiguous().numpy()})
