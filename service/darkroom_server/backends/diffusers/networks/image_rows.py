"""Rows of several images in what a denoiser's parts take and give: taken apart, put together."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

#: Where tensors of their own begin; kernels may treat other addresses differently.
_ALIGNED_BYTES = 64

#: Rows of each image that shares a step, in order.
ImageRows = tuple[int, ...]


def only_rows(args: tuple[Any, ...], kwargs: dict[str, Any], row_count: int) -> torch.Tensor | None:
    """A part's one input, if that is a tensor with these rows."""
    if kwargs or len(args) != 1 or not has_rows(args[0], row_count):
        return None
    rows: torch.Tensor = args[0]
    return rows


def has_rows(value: Any, row_count: int) -> bool:
    """Whether it is a tensor of `row_count` rows; a weight that a part is given is none."""
    if not isinstance(value, torch.Tensor) or isinstance(value, torch.nn.Parameter):
        return False
    return value.dim() > 0 and len(value) == row_count


def as_alone(rows: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    """One image's rows `of` all, in memory as if they had been computed alone.

    They begin as far behind an aligned address as all rows do: at one, unless these are a part of a
    larger tensor, such as half of its channels. Then their strides are that tensor's, too.
    """
    behind_bytes = of.data_ptr() % _ALIGNED_BYTES
    if rows.data_ptr() % _ALIGNED_BYTES == behind_bytes:
        return rows
    if 0 in rows.stride():
        return rows.clone(memory_format=torch.preserve_format)
    reach = 1 + sum((n - 1) * step for n, step in zip(rows.shape, rows.stride(), strict=True))
    space = rows.new_empty(reach + _ALIGNED_BYTES)
    skipped = (behind_bytes - space.data_ptr()) % _ALIGNED_BYTES // rows.element_size()
    return space.as_strided(rows.shape, rows.stride(), skipped).copy_(rows)


def split(inputs: Any, image_rows: ImageRows) -> Iterator[Any]:
    """Each image's inputs; values without rows are the same for all."""
    leaves, spec = tree_flatten(inputs)
    row_count, first = sum(image_rows), 0
    for rows in image_rows:
        last = first + rows
        yield tree_unflatten(
            [
                as_alone(value[first:last], value) if has_rows(value, row_count) else value
                for value in leaves
            ],
            spec,
        )
        first = last


def joined(outputs: Sequence[Any], image_rows: ImageRows) -> Any:
    """Outputs of images, concatenated by rows; values without rows are those of the first."""
    if all(map(has_rows, outputs, image_rows)):
        return torch.cat(list(outputs))
    leaves, specs = zip(*(tree_flatten(output) for output in outputs), strict=True)
    return tree_unflatten(
        [
            torch.cat(values) if all(map(has_rows, values, image_rows)) else values[0]
            for values in zip(*leaves, strict=True)
        ],
        specs[0],
    )


def is_built_alike(one: Any, other: Any) -> bool:
    """Whether two outputs are made of as many values in one order."""
    return bool(tree_flatten(one)[1] == tree_flatten(other)[1])


def differing(apart: Any, together: Any, image_rows: ImageRows) -> set[int]:
    """Row counts of the images whose outputs are not the same bits when computed together."""
    differing: set[int] = set()
    for one, other in zip(tree_flatten(apart)[0], tree_flatten(together)[0], strict=True):
        if not isinstance(one, torch.Tensor) or torch.equal(one, other):
            continue
        if len(one) != sum(image_rows):
            return set(image_rows)
        mine, theirs = (rows.split_with_sizes(image_rows) for rows in (one, other))
        pairs = zip(mine, theirs, image_rows, strict=True)
        differing |= {rows for a, b, rows in pairs if not torch.equal(a, b)}
    return differing


def equal_rows(
    predicted: torch.Tensor, alone: Sequence[torch.Tensor], image_rows: ImageRows
) -> bool:
    """Whether each image's rows are those of the image alone, in the same layout of memory."""
    parts = predicted.split_with_sizes(image_rows)
    return all(
        torch.equal(part, one) and part.stride()[1:] == one.stride()[1:]
        for part, one in zip(parts, alone, strict=True)
    )


def kind(part: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
    """What chooses a part's kernels: its class and sizes, and its inputs' shapes and layouts."""
    weights = tuple(
        (tuple(weight.shape), weight.dtype, weight.data_ptr() % _ALIGNED_BYTES)
        for weight in part.parameters(recurse=False)
    )
    inputs = tuple(
        (tuple(value.shape), value.dtype, value.stride())
        for value in tree_flatten((args, kwargs))[0]
        if isinstance(value, torch.Tensor)
    )
    return type(part), part.extra_repr(), weights, inputs
