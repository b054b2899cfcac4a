"""A denoiser run by OpenVINO on the processor."""

from __future__ import annotations

from pathlib import Path

import openvino
import torch

from darkroom_server.backends.diffusers.networks.exported import ExportedNetwork
from darkroom_server.backends.diffusers.networks.network import Inputs
from darkroom_server.domain.models import Dtype

_PRECISIONS = {Dtype.FP32: "f32", Dtype.BF16: "bf16"}


class OpenvinoNetwork(ExportedNetwork):
    """An exported denoiser; any number of rows and any size."""

    def __init__(self, graph: Path, *, thread_count: int, compute: Dtype) -> None:
        compiled = openvino.Core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": thread_count,
                "INFERENCE_PRECISION_HINT": _PRECISIONS[compute],
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._request = compiled.create_infer_request()
        super().__init__(graph, (one.get_any_name() for one in compiled.inputs))

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …], FP32."""
        # Outputs are copied: the request's own memory is written over by the next step.
        predicted = self._request.infer(self.given(inputs), share_inputs=True, share_outputs=False)[
            0
        ]
        return torch.from_numpy(predicted)
