"""Shared steps with the bytes of an image made alone: prove, then share.

An image changes in its last bits when it shares a step because some kernels are chosen by the
number of rows. Which ones depends on the machine, the library, the dtype and the shape, so it is
found by trying: every part of the denoiser computes rows of several images together and each
image's by themselves, and what differs is computed for each image by itself from then on. The
whole denoiser is then compared so with the images alone. Bound to the worker's model thread.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from darkroom_server.backends.base import SharingPlan

#: Where tensors of their own begin; kernels may treat other addresses differently.
_ALIGNED_BYTES = 64

#: Rows of each image that shares a step, in order.
ImageRows = tuple[int, ...]


class _Trial(enum.Enum):
    """How the parts of a denoiser are tried."""

    #: Parts of one kind and shape are tried once.
    KINDS = enum.auto()
    #: Every part is tried.
    PARTS = enum.auto()


@dataclass(slots=True)
class _Step:
    """One evaluation: the rows of each image, and the parts that are computed by image.

    `tried`: the names of parts that are tried; the rest is computed as the plan says.
    """

    image_rows: ImageRows
    apart: set[str]
    trial: _Trial | None = None
    tried: frozenset[str] = frozenset()
    known: set[Hashable] = field(default_factory=set)
    #: What was found to differ, by the rows of an image.
    found: dict[int, set[str]] = field(default_factory=dict)


class ExactSharing:
    """Which parts of a denoiser are computed for each image by itself, by size and by image rows.

    `module` is the denoiser; None where it is one part that cannot be divided: exported to another
    runtime, or compiled. Then a step is proved as a whole.
    """

    def __init__(self, module: torch.nn.Module | None) -> None:
        self._parts: dict[str, torch.nn.Module] = {}
        if module is not None:
            self._parts = {name: part for name, part in module.named_modules() if name}
        #: An image of one row has other kernels than one of two, and so other parts that differ.
        self._apart: dict[tuple[str, int], set[str]] = {}
        self._wrapped: set[str] = set()
        self._step: _Step | None = None

    def plan(self) -> SharingPlan:
        """What is computed by image."""
        return {
            f"{size} {rows}": sorted(names) for (size, rows), names in self._apart.items() if names
        }

    def use(self, plan: SharingPlan) -> None:
        """Takes over a plan that was made before; raises KeyError if a part of it is not here."""
        for name, names in plan.items():
            size, _, rows = name.rpartition(" ")
            self._wrap(names)
            self._apart[size, int(rows)] = set(names)

    @contextmanager
    def sharing(self, size: str, image_rows: ImageRows) -> Iterator[None]:
        """What is evaluated within has the rows of several images, kept apart where needed."""
        if len(image_rows) == 1:
            yield
            return
        with self._taking(_Step(image_rows, self._planned(size, image_rows))):
            yield

    def prove(
        self,
        size: str,
        image_rows: ImageRows,
        alone: Sequence[torch.Tensor],
        evaluate: Callable[[], torch.Tensor],
    ) -> Iterator[bool | None]:
        """Whether images evaluated together have the predictions that each has `alone`.

        Yields None before each evaluation, and at last the answer. What has to be computed by image
        is added to the plan; what does not suffice is not.
        """
        planned = self._planned(size, image_rows)
        found: dict[int, set[str]] = {}
        for trial, tried in self._trials():
            yield None
            step = _Step(image_rows, planned, trial, tried, found=found)
            with self._trying(tried), self._taking(step):
                predicted = evaluate()
            if trial is _Trial.PARTS:
                # What was tried was computed by image; now as it will be.
                yield None
                with self._trying(frozenset(planned)), self._taking(_Step(image_rows, planned)):
                    predicted = evaluate()
            if _equal_rows(predicted, alone, image_rows):
                for rows, names in found.items():
                    self._wrap(names)
                    self._apart.setdefault((size, rows), set()).update(names)
                yield True
                return
        yield False

    def _planned(self, size: str, image_rows: ImageRows) -> set[str]:
        empty: set[str] = set()
        return set().union(*(self._apart.get((size, rows), empty) for rows in set(image_rows)))

    def _trials(self) -> Iterator[tuple[_Trial, frozenset[str]]]:
        """What is tried, in turn: parts without parts, kind by kind and then each; then what they
        are parts of, the innermost first.
        """
        leaves = frozenset(n for n, part in self._parts.items() if not any(part.children()))
        yield _Trial.KINDS, leaves
        if not leaves:
            return
        yield _Trial.PARTS, leaves
        outer = self._parts.keys() - leaves
        for depth in sorted({name.count(".") for name in outer}, reverse=True):
            yield _Trial.PARTS, frozenset(n for n in outer if n.count(".") == depth)

    @contextmanager
    def _taking(self, step: _Step | None) -> Iterator[None]:
        before, self._step = self._step, step
        try:
            yield
        finally:
            self._step = before

    @contextmanager
    def _trying(self, names: frozenset[str]) -> Iterator[None]:
        """Has parts ask how they are to be computed, for a while."""
        new = names - self._wrapped
        self._wrap(new)
        try:
            yield
        finally:
            for name in new:
                self._unwrap(name)

    def _wrap(self, names: Iterable[str]) -> None:
        for name in set(names) - self._wrapped:
            part = self._parts[name]
            part.forward = _Asking(self, name, part.forward)
            self._wrapped.add(name)

    def _unwrap(self, name: str) -> None:
        part = self._parts[name]
        asking = part.forward
        assert isinstance(asking, _Asking)
        part.forward = asking.forward
        self._wrapped.discard(name)

    def compute(
        self, name: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A part's output: by image where the plan says so, tried where it is to be tried."""
        step = self._step
        if step is None:
            return forward(*args, **kwargs)
        if name in step.apart:
            return _joined(self._by_image(step, forward, args, kwargs), step.image_rows)
        row_count = sum(step.image_rows)
        if name not in step.tried or not any(
            _has_rows(value, row_count) for value in tree_flatten((args, kwargs))[0]
        ):
            return forward(*args, **kwargs)
        kind = _kind(self._parts[name], args, kwargs) if step.trial is _Trial.KINDS else None
        if kind is not None and kind in step.known:
            return forward(*args, **kwargs)
        apart = self._by_image(step, forward, args, kwargs)
        with self._taking(_Step(step.image_rows, step.apart)):
            together = forward(*args, **kwargs)
        joined = _joined(apart, step.image_rows)
        if differing := _differing(joined, together, step.image_rows):
            step.apart.add(name)
            for rows in differing:
                step.found.setdefault(rows, set()).add(name)
        elif kind is not None:
            step.known.add(kind)
        return joined

    def _by_image(
        self,
        step: _Step,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> list[Any]:
        """Each image's rows computed as if it were alone."""
        with self._taking(None):
            if not kwargs and len(args) == 1 and _has_rows(args[0], sum(step.image_rows)):
                images = args[0].split_with_sizes(step.image_rows)
                return [forward(_as_alone(rows)) for rows in images]
            return [
                forward(*one_args, **one_kwargs)
                for one_args, one_kwargs in _split((args, kwargs), step.image_rows)
            ]


@dataclass(frozen=True, slots=True)
class _Asking:
    """A part's `forward`, which asks how its rows are to be computed."""

    sharing: ExactSharing
    name: str
    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.sharing.compute(self.name, self.forward, args, kwargs)


def _has_rows(value: Any, row_count: int) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and len(value) == row_count


def _as_alone(rows: torch.Tensor) -> torch.Tensor:
    """One image's rows, in memory as if they had been computed alone: at an aligned address."""
    if rows.data_ptr() % _ALIGNED_BYTES == 0:
        return rows
    return rows.clone(memory_format=torch.preserve_format)


def _split(inputs: Any, image_rows: ImageRows) -> Iterator[Any]:
    """Each image's inputs; what has no rows is everyone's."""
    leaves, spec = tree_flatten(inputs)
    row_count, first = sum(image_rows), 0
    for rows in image_rows:
        last = first + rows
        yield tree_unflatten(
            [
                _as_alone(value[first:last]) if _has_rows(value, row_count) else value
                for value in leaves
            ],
            spec,
        )
        first = last


def _joined(outputs: Sequence[Any], image_rows: ImageRows) -> Any:
    """Outputs of images, put together; what has no rows is the first one's."""
    if all(map(_has_rows, outputs, image_rows)):
        return torch.cat(list(outputs))
    leaves, specs = zip(*(tree_flatten(output) for output in outputs), strict=True)
    return tree_unflatten(
        [
            torch.cat(values) if all(map(_has_rows, values, image_rows)) else values[0]
            for values in zip(*leaves, strict=True)
        ],
        specs[0],
    )


def _differing(apart: Any, together: Any, image_rows: ImageRows) -> set[int]:
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


def _equal_rows(
    predicted: torch.Tensor, alone: Sequence[torch.Tensor], image_rows: ImageRows
) -> bool:
    """Whether each image's rows are those of the image alone, in the same layout of memory."""
    parts = predicted.split_with_sizes(image_rows)
    return all(
        torch.equal(part, one) and part.stride()[1:] == one.stride()[1:]
        for part, one in zip(parts, alone, strict=True)
    )


def _kind(part: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable:
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
