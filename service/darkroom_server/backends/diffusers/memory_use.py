"""Memory that a loaded pipeline takes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def weight_bytes(pipeline: Any) -> int:
    """Bytes of all parameters and buffers of a pipeline that are in memory."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(
        _stored_bytes(tensor)
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
        if not tensor.is_meta
    )


def _stored_bytes(tensor: torch.Tensor) -> int:
    """Of a quantized tensor, the bytes of what it is made of, not of what it stands for."""
    if not is_traceable_wrapper_subclass(tensor):
        return tensor.numel() * tensor.element_size()
    names, _ = tensor.__tensor_flatten__()
    return sum(_stored_bytes(getattr(tensor, name)) for name in names)
