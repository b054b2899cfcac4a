"""Exported graphs run by OpenVINO on the processor."""

from __future__ import annotations

from pathlib import Path

import openvino
import torch

from darkroom_server.backends.diffusers.networks.exported import Arrays
from darkroom_server.domain.models import Dtype

_PRECISIONS = {Dtype.FP32: "f32", Dtype.BF16: "bf16"}


class OpenvinoGraph:
    """A graph in OpenVINO."""

    def __init__(self, path: Path, *, thread_count: int, compute: Dtype) -> None:
        compiled = openvino.Core().compile_model(
            path,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": thread_count,
                "INFERENCE_PRECISION_HINT": _PRECISIONS[compute],
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._request = compiled.create_infer_request()
        self.input_names = frozenset(one.get_any_name() for one in compiled.inputs)

    def run(self, arrays: Arrays) -> torch.Tensor:
        """The graph's one output, FP32 [rows, …]. Blocking."""
        # Outputs are copied: the request's own memory is written over by the next run.
        outputs = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return torch.from_numpy(outputs[0])
