"""A denoiser compiled by torch, for the shapes that ran before the warm-up ended.

Everything else runs as the library wrote it: nothing is ever compiled while requests wait. Dynamo's
settings and counters are global to the process; a worker process holds one model.
"""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch._dynamo import config as dynamo_config
from torch._dynamo.utils import counters

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.diffusers.networks.eager import EagerNetwork
from darkroom_server.backends.diffusers.networks.network import (
    Inputs,
    flat,
    row_count,
    with_timestep_rows,
)

#: Graphs of one piece of code: a few for each size. Beyond its own limit of 8 torch would run the
#: rest uncompiled and say so in its log only.
_MAX_GRAPHS = 64
#: What compiles C++ on a processor, by the names that torch looks for.
_COMPILERS = ("g++", "clang++")


class CompiledNetwork:
    """Compiles its module: its repeated blocks one by one where `regional`, else as a whole.

    The number of rows is a dimension that a graph leaves open from two rows on, so that a size
    takes two graphs. With `cuda_graphs`, of a GPU only, steps are replayed as such.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        constants: Mapping[str, Any],
        *,
        regional: bool,
        cuda_graphs: bool = False,
    ) -> None:
        self._eager = EagerNetwork(module, constants)
        self._regional = regional
        self._cuda_graphs = cuda_graphs
        self._is_warming = True
        self._warm: set[Hashable] = set()
        self._graphs_before = _graph_count()
        self._graphs_warm = 0
        self._uncompiled_step_count = 0
        dynamo_config.recompile_limit = max(dynamo_config.recompile_limit, _MAX_GRAPHS)
        mode = "reduce-overhead" if cuda_graphs else None
        if regional:
            module.compile_repeated_blocks(mode=mode)  # type: ignore[operator]
        else:
            # Symbolic heights and widths fail in convolutions: only rows are left open, below.
            module.compile(mode=mode, dynamic=False)

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …]; by a graph where the shapes were warmed up."""
        inputs = with_timestep_rows(inputs)
        shapes = _shapes(inputs)
        if self._is_warming:
            self._warm.add(shapes)
            stance = "default"
        elif shapes in self._warm:
            stance = "eager_on_recompile"
        else:
            self._uncompiled_step_count += 1
            stance = "force_eager"
        if not self._regional and stance == "default" and row_count(inputs) > 1:
            _leave_rows_open(inputs)
        with torch.compiler.set_stance(stance):
            if self._cuda_graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
                # The next replay writes over what this one returned.
                return self._eager(inputs).clone()
            return self._eager(inputs)

    def memory_bytes(self) -> int:
        """None: the weights are the pipeline's."""
        return 0

    def end_warm_up(self) -> None:
        """Shapes that have not run by now run uncompiled."""
        self._is_warming = False
        self._graphs_warm = _graph_count()

    def compile_counts(self) -> CompileCounts:
        """Graphs of the warm-up and after it."""
        now = _graph_count()
        return CompileCounts(
            graph_count=now - self._graphs_before,
            recompile_count=0 if self._is_warming else now - self._graphs_warm,
            uncompiled_step_count=self._uncompiled_step_count,
        )


def reason_against(device: torch.device) -> str | None:
    """Why nothing can be compiled here, and what helps; None if it can."""
    if device.type != "cpu" or any(shutil.which(name) for name in _COMPILERS):
        return None
    return "torch compiles for processors with a C++ compiler, and none was found: apt install g++"


def _graph_count() -> int:
    return int(counters["stats"]["unique_graphs"])


def _shapes(inputs: Inputs) -> Hashable:
    """Everything about shapes but the rows, and whether there is one: a graph of its own."""
    tensors = flat(inputs)
    rows = row_count(inputs)
    return rows == 1, tuple((name, tensor.shape[1:]) for name, tensor in tensors.items())


def _leave_rows_open(inputs: Inputs) -> None:
    rows = row_count(inputs)
    for tensor in flat(inputs).values():
        if len(tensor) == rows:
            torch._dynamo.mark_dynamic(tensor, 0)
