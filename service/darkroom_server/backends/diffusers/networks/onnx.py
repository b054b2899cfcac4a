"""A denoiser run by ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.diffusers.networks.network import Inputs, flat, with_timestep_rows


class OnnxNetwork:
    """An exported denoiser; any number of rows and any size."""

    def __init__(self, graph: Path, *, thread_count: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores from torch, which computes between the steps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._names = frozenset(one.name for one in self._session.get_inputs())
        self._memory_bytes = sum(path.stat().st_size for path in graph.parent.iterdir())

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …], FP32."""
        given = {
            name: tensor.contiguous().numpy()
            for name, tensor in flat(with_timestep_rows(inputs)).items()
            if name in self._names  # what an exporter found unused is no input of the graph
        }
        (predicted,) = self._session.run(None, given)
        return torch.from_numpy(predicted)

    def memory_bytes(self) -> int:
        """Its weights, by the size of the files."""
        return self._memory_bytes

    def end_warm_up(self) -> None:
        """Nothing is compiled."""

    def compile_counts(self) -> CompileCounts:
        """Nothing is compiled."""
        return CompileCounts()
