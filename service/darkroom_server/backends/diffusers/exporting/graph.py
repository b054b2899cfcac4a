"""ONNX graphs: of a denoiser, for any rows and sizes and a timestep a row, and of a decoder."""

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
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel

#: Latents of which no UNet's stages halve evenly: only then is what they do about it in the graph.
_ODD_HEIGHT, _ODD_WIDTH = 33, 25


class _Decoder(torch.nn.Module):
    """What the pipeline calls of its VAE to have pixels."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self._vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels [1, 3, height, width]."""
        decoded: torch.Tensor = self._vae.decode(latents, return_dict=False)[0]
        return decoded


class _Flat(torch.nn.Module):
    """The denoiser with tensors in a row as its arguments, named in `names`."""

    def __init__(self, model: AnyFamilyModel, inputs: Inputs) -> None:
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


def write_onnx(model: AnyFamilyModel, inputs: Inputs, target: Path) -> None:
    """Writes the graph and its weights beside it. `inputs` have two rows. Takes minutes.

    Every dimension of rows, and those that `size_axes` names, are left open. Raises RuntimeError
    where torch cannot export it.
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
    # The module takes them as one tuple of any length, whose shapes are one entry.
    _write(_Flat(model, inputs), given, list(tensors), "predicted", (open_axes,), target)


def write_decoder_onnx(vae: Any, target: Path) -> None:
    """Writes the decoder of a VAE, for one image of any size, and its weights beside it.

    Raises RuntimeError where torch cannot export it.
    """
    latents = torch.randn(1, vae.config.latent_channels, _ODD_HEIGHT, _ODD_WIDTH)
    open_axes = dict.fromkeys((2, 3), torch.export.Dim.AUTO)
    _write(_Decoder(vae), (latents,), ["latents"], "pixels", (open_axes,), target)


def _write(
    module: torch.nn.Module,
    given: tuple[torch.Tensor, ...],
    input_names: list[str],
    output_name: str,
    open_axes: tuple[Any, ...],
    target: Path,
) -> None:
    with torch.no_grad():
        program = torch.onnx.export(
            module.eval(),
            given,
            input_names=input_names,
            output_names=[output_name],
            dynamic_shapes=open_axes,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch exported nothing")
    program.save(target, external_data=True)
