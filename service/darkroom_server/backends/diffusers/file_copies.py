"""Copies of tensors that are still a file on disk."""

from __future__ import annotations

import torch

#: Bytes of the widest vectors that processors compute with.
_VECTOR_BYTES = 64


def copied_in_place_of(tensor: torch.Tensor) -> torch.Tensor:
    """A copy whose address has the same offset to the alignment of vectors.

    Kernels may round by that, and results are to be those of the tensor in the file.
    """
    byte_count = tensor.numel() * tensor.element_size()
    buffer = torch.empty(byte_count + _VECTOR_BYTES, dtype=torch.uint8)
    start = (tensor.data_ptr() - buffer.data_ptr()) % _VECTOR_BYTES
    if start % tensor.element_size() or not tensor.is_contiguous():
        return tensor.clone()
    copy = buffer[start : start + byte_count].view(tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor)
