"""A denoiser run by OpenVINO on the processor."""

from __future__ import annotations

from pathlib import Path

import openvino
import torch

from darkroom_server.backends.base import CompileCounts
from darkroom_server.backends.diffusers.networks.network import Inputs, flat, with_timestep_rows
from darkroom_server.domain.models import Dtype

_PRECISIONS = {Dtype.FP32: "f32", Dtype.BF16: "bf16"}


class OpenvinoNetwork:
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
        self._names = frozenset(one.get_any_name() for one in compiled.inputs)
        self._memory_bytes = sum(path.stat().st_size for path in graph.parent.iterdir())

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        """Predictions [rows, …], FP32."""
        given = {
            name: tensor.contiguous().numpy()
            for name, tensor in flat(with_timestep_rows(inputs)).items()
            if name in self._names
        }
        # Outputs are copied: the request's own memory is written over by the next step.
        predicted = self._request.infer(given, share_inputs=True, share_outputs=False)[0]
        return torch.from_numpy(predicted)

    def memory_bytes(self) -> int:
        """Its weights, by the size of the files."""
        return self._memory_bytes

    def end_warm_up(self) -> None:
        """Nothing that takes long is left to be compiled."""

    def compile_counts(self) -> CompileCounts:
        """Nothing is compiled by torch."""
        return CompileCounts()
