"""What all runtimes of exported denoisers have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.diffusers.networks.network import Inputs, flat, with_timestep_rows


class ExportedNetwork:
    """A graph with weights of its own; any number of rows and any size, and nothing to compile."""

    def __init__(self, graph: Path, input_names: Iterable[str]) -> None:
        self._names = frozenset(input_names)
        self._memory_bytes = sum(path.stat().st_size for path in graph.parent.iterdir())

    def given(self, inputs: Inputs) -> dict[str, Any]:
        """The arrays that the graph takes, by name."""
        return {
            name: tensor.contiguous().numpy()
            for name, tensor in flat(with_timestep_rows(inputs)).items()
            if name in self._names  # what an exporter found unused is no input of the graph
        }

    def memory_bytes(self) -> int:
        """Its weights, by the size of the files."""
        return self._memory_bytes

    def end_warm_up(self) -> None:
        """Nothing that takes long is left to be compiled."""

    def compile_counts(self) -> CompileCounts:
        """Nothing is compiled by torch."""
        return CompileCounts()
