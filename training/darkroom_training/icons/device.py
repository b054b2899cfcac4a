"""Where a training computes: torch's default device, which `--device` sets."""

from __future__ import annotations

import torch


def mixed() -> torch.autocast:
    """Arithmetic in bfloat16 where that is safe."""
    return torch.autocast(torch.get_default_device().type, torch.bfloat16)


def here(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that came from a file or a picture, where the training computes."""
    return tensor.to(torch.get_default_device())
