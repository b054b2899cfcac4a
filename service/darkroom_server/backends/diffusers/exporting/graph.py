"""A denoiser as an ONNX graph: any number of rows, any size, a timestep for each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from darkroom_server.backends.diffusers.networks.network import (
    Inputs,
    flat,
    row_count,
    with_timestep_rows,
)
from darkroom_server.backends.diffusers.step_model import DiffusersStepModel

#: Latents of which no UNet's stages halve evenly: only then is what they do about it in the graph.
_ODD_HEIGHT, _ODD_WIDTH = 33, 25


class _Flat(torch.nn.Module):
    """The denoiser with tensors in a row as its arguments, named in `names`."""

    def __init__(self, model: DiffusersStepModel, inputs: Inputs) -> None:
        super().__init__()
        self._module = model.module
        self._inputs = inputs
        self._constants = dict(model.constants)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Predictions [rows, …]."""
        given = dict(zip(flat(self._inputs), tensors, strict=True))
        arguments: dict[str, Any] = {}
        for name, value in self._inputs.items():
            match value:
                case None:
                    arguments[name] = None
                case dict():
                    arguments[name] = {inner: given[inner] for inner in value}
                case _:
                    arguments[name] = given[name]
        predicted: torch.Tensor = self._module(**arguments, **self._constants, return_dict=False)[0]
        return predicted


def write_onnx(model: DiffusersStepModel, inputs: Inputs, target: Path) -> None:
    """Writes the graph and its weights beside it. `inputs` have two rows. Takes minutes.

    Every dimension of rows, and those that `size_axes` names, are left open.
    """
    inputs = with_timestep_rows(inputs)
    if "sample" in inputs:
        rows, channels = inputs["sample"].shape[:2]
        inputs = inputs | {"sample": torch.randn(rows, channels, _ODD_HEIGHT, _ODD_WIDTH)}
    tensors, rows = flat(inputs), row_count(inputs)
    open_axes = tuple(
        dict.fromkeys(
            (*((0,) if len(tensor) == rows else ()), *model.size_axes.get(name, ())),
            torch.export.Dim.AUTO,
        )
        for name, tensor in tensors.items()
    )
    # Tensors made for inference only cannot be traced.
    given = tuple(tensor.detach().clone() for tensor in tensors.values())
    with torch.no_grad():
        program = torch.onnx.export(
            _Flat(model, inputs).eval(),
            given,
            input_names=list(tensors),
            output_names=["predicted"],
            dynamic_shapes=(open_axes,),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch exported nothing")
    program.save(target, external_data=True)
