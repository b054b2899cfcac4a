"""Ways to compute a part of several images in one call, each image as if it were alone.

A linear layer is a product of matrices, whose kernel is chosen by the number of rows. A batched
product takes one matrix an image and often runs the kernel of one alone on each. torch's processor
convolutions of one small picture are another library's than those of several; its own runs picture
by picture. Whether a way has the bits of the image alone is not known here: it is to be proved, and
only in FP32: sums in another order, rounded to FP16 or BF16, differ too rarely to be found out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

#: The output for all images' rows [rows, …], of images of equally many rows: how many images.
BatchedWay = Callable[[torch.Tensor, int], torch.Tensor]


def batched_way(part: torch.nn.Module) -> BatchedWay | None:
    """A part's way, if it has one: only where it computes exactly what its class says."""
    if getattr(part.forward, "__func__", None) is not type(part).forward:
        return None  # its weights may lie elsewhere until it is called
    if not is_precise(part):
        return None
    if type(part) is torch.nn.Linear:
        return partial(_product, part)
    if type(part) is torch.nn.Conv2d and _is_plain(part):
        return partial(_picture_by_picture, part)
    return None


def is_precise(part: torch.nn.Module) -> bool:
    """Whether a part's own weights are FP32: sums in another order are then found out."""
    return all(
        type(one) is torch.nn.Parameter and one.dtype == torch.float32
        for one in part.parameters(recurse=False)
    )


def _is_plain(part: torch.nn.Conv2d) -> bool:
    """Whether torch's own convolution takes it; on a GPU other libraries' are always run."""
    return (
        part.weight.device.type == "cpu"
        and part.groups == 1
        and part.dilation == (1, 1)
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
    )


def _product(part: torch.nn.Linear, rows: torch.Tensor, image_count: int) -> torch.Tensor:
    """One product of matrices for each image, of its rows and tokens."""
    images = rows.reshape(image_count, -1, rows.shape[-1])
    weights = part.weight.t().expand(image_count, -1, -1)
    if part.bias is None:
        made = torch.bmm(images, weights)
    else:
        made = torch.baddbmm(part.bias, images, weights)
    return made.view(*rows.shape[:-1], -1)


def _picture_by_picture(
    part: torch.nn.Conv2d, rows: torch.Tensor, image_count: int
) -> torch.Tensor:
    """torch's convolution that is a product of matrices for each row."""
    del image_count
    made: torch.Tensor = torch.ops.aten.thnn_conv2d(
        rows, part.weight, part.kernel_size, part.bias, part.stride, part.padding
    )
    return made
