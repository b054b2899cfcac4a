"""Exported graphs run by ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch

from darkroom_server.backends.diffusers.networks.exported import Arrays


class OnnxGraph:
    """A graph in ONNX Runtime."""

    def __init__(self, path: Path, *, thread_count: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count
        options.inter_op_num_threads = 1
        # Idle threads that spin take the cores from torch, which computes between the steps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.input_names = frozenset(one.name for one in self._session.get_inputs())

    def run(self, arrays: Arrays) -> torch.Tensor:
        """The graph's one output, FP32 [rows, …]. Blocking."""
        (output,) = self._session.run(None, arrays)
        return torch.from_numpy(output)
