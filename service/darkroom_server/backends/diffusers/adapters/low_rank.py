"""Low-rank additions to layers, computed as peft computes what is not merged into weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.nn import functional

#: Layers that can be added to.
Layer: TypeAlias = "torch.nn.Linear | torch.nn.Conv2d"


@dataclass(frozen=True, slots=True)
class LowRank:
    """What one adapter adds to one layer: `up` of `down` of the layer's input, scaled.

    Of a linear layer `down` is [rank, in] and `up` [out, rank]; of a convolution they are
    convolutions, the first like the layer's own, the second of single pixels.
    """

    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    divisor: float

    @property
    def rank(self) -> int:
        """Numbers that the input is reduced to."""
        return len(self.down)

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.down.nbytes + self.up.nbytes

    def scaling(self, weight: float) -> float:
        """The factor at a weight, in the order of peft's product."""
        return weight * self.alpha / self.divisor

    def to(self, device: torch.device) -> LowRank:
        """The same on a device."""
        if self.down.device == device:
            return self
        return LowRank(self.down.to(device), self.up.to(device), self.alpha, self.divisor)

    def added(
        self, layer: Layer, inputs: torch.Tensor, result: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """The layer's result [rows, …, out] for inputs [rows, …, in] with the addition.

        Writes into `result`.
        """
        inputs = inputs.to(self.down.dtype)
        if isinstance(layer, torch.nn.Linear):
            product = functional.linear(functional.linear(inputs, self.down), self.up)
        else:
            reduced = functional.conv2d(
                inputs, self.down, None, layer.stride, layer.padding, layer.dilation
            )
            product = functional.conv2d(reduced, self.up)
        if product.dtype != result.dtype:
            return result + product * scaling
        return result.add_(product if scaling == 1 else product.mul_(scaling))


#: By the layer's name in its part.
PartLayers: TypeAlias = Mapping[str, LowRank]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter in memory: what it adds to each part of a pipeline, by the part's name.

    `key` distinguishes it from every other one.
    """

    key: str
    parts: Mapping[str, PartLayers]

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(pair.nbytes for layers in self.parts.values() for pair in layers.values())

    def to(self, device: torch.device) -> Adapter:
        """The same on a device."""
        return Adapter(
            key=self.key,
            parts={
                part: {name: pair.to(device) for name, pair in layers.items()}
                for part, layers in self.parts.items()
            },
        )


@dataclass(frozen=True, slots=True)
class Weighted:
    """An adapter and how much of it."""

    adapter: Adapter
    weight: float


#: What an image is made with, in the order in which it is added.
AdapterSet: TypeAlias = tuple[Weighted, ...]
