"""A denoiser run by ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import torch

from darkroom_server.backends.diffusers.networks.exported import ExportedNetwork
from darkroom_server.backends.diffusers.networks.network import Inputs


class OnnxNetwork(ExportedNetwork):
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
        super().__init__(graph, (one.name for one in self._session.get_inputs()))

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …], FP32."""
        (predicted,) = self._session.run(None, self.given(inputs))
        return torch.from_numpy(predicted)
