"""Linear layers of a part with adapters, as peft leaves them: weights that ask for no gradient.

torch chooses how it multiplies inputs that are not contiguous, such as a picture whose channels are
put last, also by whether the weight asks for a gradient, even where none is computed; the sums are
then rounded differently. A part that peft adds adapters to has weights that ask for none, one
without has weights that do. So each image's rows are computed as its part would have them alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from darkroom_server.backends.diffusers.networks.image_rows import as_alone
from darkroom_server.backends.diffusers.networks.present_images import PresentImages


class Frozen:
    """A linear layer's hook. `has_adapters`: by image of the step, whether the part has any."""

    def __init__(self, present: PresentImages, has_adapters: Sequence[bool]) -> None:
        self._present, self._has_adapters = present, tuple(has_adapters)

    def __call__(
        self, layer: torch.nn.Linear, args: tuple[torch.Tensor, ...], result: torch.Tensor
    ) -> torch.Tensor:
        """The layer's result; rows of images with adapters are computed again where it matters."""
        inputs = args[0]
        if inputs.dim() < 3 or inputs.is_contiguous():
            return result
        present, first = self._present, 0
        # Some layers are given the tokens of all rows one after another.
        each = len(inputs) // sum(present.image_rows)
        bias = None if layer.bias is None else layer.bias.detach()
        has_adapters = self._has_adapters[present.first : present.last]
        for rows, has in zip(present.image_rows, has_adapters, strict=True):
            last = first + rows * each
            if has:
                own = as_alone(inputs[first:last], inputs)
                result[first:last] = F.linear(own, layer.weight.detach(), bias)
            first = last
        return result
