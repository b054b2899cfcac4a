"""Where a training computes: torch's default device, which `--device` sets."""

from __future__ import annotations

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def mixed() -> torch.autocast:
    """Arithmetic in bfloat16 where that is safe."""
    return torch.autocast(torch.get_default_device().type, torch.bfloat16)


def attention() -> contextlib.AbstractContextManager[object]:
    """How attention over few tokens is computed: the way back of torch's fused one is slow on a CPU."""
    if torch.get_default_device().type == "cpu":
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()


def here(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that came from a file or a picture, where the training computes."""
    return tensor.to(torch.get_default_device())
