"""Shared steps with the bytes of an image made alone: prove, then share.

An image changes in its last bits when it shares a step because some kernels are chosen by the
number of rows. Which ones depends on the machine, the library, the dtype and the shape, so it is
found by trying: every part of the denoiser computes rows of several images together and each
image's by themselves, and what differs is computed for each image by itself from then on: in one
call where that, too, has the same bits, else one image after another. The whole denoiser is then
compared so with the images alone. Bound to the worker's model thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from darkroom_server.backends.base import SharingPlan
from darkroom_server.backends.diffusers.networks.batched_ways import (
    BatchedWay,
    batched_way,
    is_precise,
)
from darkroom_server.backends.diffusers.networks.exact_plan import EACH, ONE_CALL, Keys
from darkroom_server.backends.diffusers.networks.exact_step import (
    Block,
    Proved,
    Step,
    Trial,
    by_themselves,
)
from darkroom_server.backends.diffusers.networks.image_rows import (
    ImageRows,
    as_alone,
    differing,
    equal_rows,
    has_rows,
    is_built_alike,
    joined,
    kind,
    only_rows,
    split,
)
from darkroom_server.backends.diffusers.networks.present_images import PresentImages


class ExactSharing:
    """Which parts of a denoiser are computed for each image by itself, by size and by image rows.

    `module` is the denoiser; None where it is one part that cannot be divided: exported to another
    runtime, or compiled. Then a step is proved as a whole.
    """

    def __init__(
        self, module: torch.nn.Module | None, present: PresentImages | None = None
    ) -> None:
        #: Kept true while parts are computed by image.
        self._present = present or PresentImages()
        self._parts: dict[str, torch.nn.Module] = {}
        if module is not None:
            self._parts = {name: part for name, part in module.named_modules() if name}
        self._leaves = frozenset(
            name for name, part in self._parts.items() if not any(part.children())
        )
        #: Whether what is computed otherwise shows; else what differed once is always kept apart.
        self._is_precise = all(map(is_precise, self._parts.values()))
        #: What was ever found to differ. An image of one row has other kernels than one of two, and
        #: so other parts that do.
        self._apart: dict[tuple[str, int], set[str]] = {}
        #: Steps that were proved, as numbers of images and of rows of each.
        self._proved: dict[tuple[str, int], dict[int, Proved]] = {}
        self._ways: dict[str, BatchedWay] = {}
        self._wrapped: set[str] = set()
        self._step: Step | None = None

    def plan(self) -> SharingPlan:
        """What was found to differ; and by number of images, what is computed image by image
        and what in one call.
        """
        plan = {
            Keys(size, rows).text: sorted(names)
            for (size, rows), names in self._apart.items()
            if names
        }
        for (size, rows), counts in self._proved.items():
            for count, proved in counts.items():
                plan[Keys(size, rows, count, ONE_CALL).text] = sorted(proved.batched)
                plan[Keys(size, rows, count, EACH).text] = sorted(proved.apart - proved.batched)
        return plan

    def use(self, plan: SharingPlan) -> None:
        """Takes over a plan that was made before; raises KeyError if a part of it is not here."""
        for text, names in plan.items():
            keys = Keys.of(text)
            self._wrap(names)
            if keys.image_count is None:
                self._apart[keys.size, keys.rows] = set(names)
                continue
            if keys.how == ONE_CALL and (missing := set(names) - self._ways.keys()):
                raise KeyError(missing.pop())
            counts = self._proved.setdefault((keys.size, keys.rows), {})
            known = counts.get(keys.image_count, Proved())
            batched = known.batched | (set(names) if keys.how == ONE_CALL else set())
            counts[keys.image_count] = Proved(known.apart | set(names), batched)

    @contextmanager
    def sharing(self, size: str, image_rows: ImageRows) -> Iterator[None]:
        """What is evaluated within has the rows of several images, kept apart where needed."""
        if len(image_rows) == 1:
            yield
            return
        with self._taking(self._planned(size, image_rows)):
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
        found: dict[int, set[str]] = {}
        for trial, tried in self._trials():
            yield None
            step = self._planned(size, image_rows, is_new=True)
            for names in found.values():
                step.apart |= names
            step.trial, step.tried, step.found = trial, tried, found
            with self._trying(tried), self._taking(step):
                predicted = evaluate()
            if trial is Trial.PARTS:
                # What was tried was computed by image; now as it will be.
                yield None
                planned = Step(image_rows, step.apart, by_themselves(image_rows, step.apart))
                with self._trying(frozenset(step.apart)), self._taking(planned):
                    predicted = evaluate()
            if equal_rows(predicted, alone, image_rows):
                self._keep(size, image_rows, step)
                yield True
                return
        yield False

    def _keep(self, size: str, image_rows: ImageRows, step: Step) -> None:
        """Takes what a proof found into the plan."""
        for rows, names in step.found.items():
            self._wrap(names)
            self._apart.setdefault((size, rows), set()).update(names)
        if self._parts and not step.is_mixed:
            batched = {name for name, is_equal in step.is_batched.items() if is_equal}
            proved = Proved(frozenset(step.apart), frozenset(batched & step.apart))
            self._proved.setdefault((size, image_rows[0]), {})[len(image_rows)] = proved

    def _planned(self, size: str, image_rows: ImageRows, *, is_new: bool = False) -> Step:
        """A step as it is to be computed, as far as is known; a new one as it is to be tried."""
        blocks = tuple(self._blocks(size, image_rows))
        if len(blocks) > 1:
            # What is not computed together is computed block by block.
            apart = [self._apart.get((size, block.rows), set()) for block in blocks]
            return Step(image_rows, set().union(*apart), blocks)
        if is_new and self._is_precise:
            return Step(image_rows, set(), blocks)
        return Step(image_rows, set(blocks[0].apart), blocks)

    def _blocks(self, size: str, image_rows: ImageRows) -> Iterator[Block]:
        """Equal neighbours, as many together as were proved to be equal in a step of their own."""
        is_mixed = len(set(image_rows)) > 1
        for rows, run in itertools.groupby(image_rows):
            apart = frozenset(self._apart.get((size, rows), ()))
            proved = self._proved.get((size, rows), {})
            left = len(list(run))
            while left:
                count = left
                if is_mixed:
                    count = max((one for one in proved if one <= left), default=1)
                found = proved.get(count, Proved(apart))
                yield Block(
                    rows, count, found.apart if self._is_precise else apart, found.batched & apart
                )
                left -= count

    def _trials(self) -> Iterator[tuple[Trial, frozenset[str]]]:
        """What is tried, in turn: parts without parts, kind by kind and then each; then what they
        are parts of, the innermost first.
        """
        yield Trial.KINDS, self._leaves
        if not self._leaves:
            return
        yield Trial.PARTS, self._leaves
        outer = self._parts.keys() - self._leaves
        for depth in sorted({name.count(".") for name in outer}, reverse=True):
            yield Trial.PARTS, frozenset(n for n in outer if n.count(".") == depth)

    @contextmanager
    def _taking(self, step: Step | None) -> Iterator[None]:
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
            if (way := batched_way(part)) is not None:
                self._ways[name] = way
            part.forward = _Asking(self, name, part.forward)
            self._wrapped.add(name)

    def _unwrap(self, name: str) -> None:
        part = self._parts[name]
        asking = part.forward
        assert isinstance(asking, _Asking)
        part.forward = asking.forward
        self._ways.pop(name, None)
        self._wrapped.discard(name)

    def compute(
        self, name: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A part's output: by image where the plan says so, tried where it is to be tried."""
        step = self._step
        if step is None:
            return forward(*args, **kwargs)
        if name in step.apart:
            if step.trial is None:
                return self._by_block(step, name, forward, args, kwargs)
            apart = self._by_image(step.image_rows, forward, args, kwargs)
            return self._tried_way(step, name, joined(apart, step.image_rows), args, kwargs)
        row_count = sum(step.image_rows)
        if name not in step.tried or not any(
            has_rows(value, row_count) for value in tree_flatten((args, kwargs))[0]
        ):
            return forward(*args, **kwargs)
        alike = kind(self._parts[name], args, kwargs) if step.trial is Trial.KINDS else None
        if alike is not None and alike in step.known:
            return forward(*args, **kwargs)
        apart = self._by_image(step.image_rows, forward, args, kwargs)
        with self._taking(
            Step(step.image_rows, step.apart, by_themselves(step.image_rows, step.apart))
        ):
            together = forward(*args, **kwargs)
        if not is_built_alike(apart[0], together):
            # Lists of what each row has, as of Lumina 2's positions: no rows that can be joined.
            return together
        made = joined(apart, step.image_rows)
        if rows_differing := differing(made, together, step.image_rows):
            step.apart.add(name)
            for rows in rows_differing:
                step.found.setdefault(rows, set()).add(name)
            return self._tried_way(step, name, made, args, kwargs)
        if alike is not None:
            step.known.add(alike)
        return made

    def _tried_way(
        self, step: Step, name: str, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What a part `made` image by image; notes whether it is the same in one call."""
        if (way := self._ways.get(name)) is None or step.is_mixed:
            return made
        rows = only_rows(args, kwargs, sum(step.image_rows))
        if rows is None:
            step.is_batched[name] = False
        elif step.is_batched.get(name, True):
            at_once = way(rows, len(step.image_rows))
            is_equal = at_once.stride() == made.stride() and torch.equal(at_once, made)
            step.is_batched[name] = is_equal
        return made

    def _by_block(
        self,
        step: Step,
        name: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """The output of a part that is not computed all together, block by block."""
        if len(step.blocks) == 1:
            return self._of_block(step.blocks[0], name, forward, args, kwargs)
        block_rows = tuple(block.row_count for block in step.blocks)
        if (rows := only_rows(args, kwargs, sum(block_rows))) is not None:
            pieces = rows.split_with_sizes(block_rows)
            inputs: Iterable[Any] = [((as_alone(piece, rows),), kwargs) for piece in pieces]
        else:
            inputs = split((args, kwargs), block_rows)
        image_counts = (block.image_count for block in step.blocks)
        outputs = [
            self._of_block(block, name, forward, *own)
            for block, own in zip(
                step.blocks, self._present.in_turn(inputs, image_counts), strict=True
            )
        ]
        return joined(outputs, block_rows)

    def _of_block(
        self,
        block: Block,
        name: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if name in block.batched:
            rows = only_rows(args, kwargs, block.row_count)
            if rows is not None:
                return self._ways[name](rows, block.image_count)
        if name not in block.apart and name in self._leaves:
            return forward(*args, **kwargs)
        image_rows = (block.rows,) * block.image_count
        if name in block.apart or block.image_count == 1:
            return joined(self._by_image(image_rows, forward, args, kwargs), image_rows)
        with self._taking(Step(image_rows, set(block.apart), (block,))):
            return forward(*args, **kwargs)

    def _by_image(
        self,
        image_rows: ImageRows,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> list[Any]:
        """Each image's rows computed as if it were alone."""
        with self._taking(None):
            if (rows := only_rows(args, kwargs, sum(image_rows))) is not None:
                pieces = rows.split_with_sizes(image_rows)
                return [forward(as_alone(one, rows)) for one in self._present.in_turn(pieces)]
            return [
                forward(*one_args, **one_kwargs)
                for one_args, one_kwargs in self._present.in_turn(split((args, kwargs), image_rows))
            ]


@dataclass(frozen=True, slots=True)
class _Asking:
    """A part's `forward`, which asks how its rows are to be computed."""

    sharing: ExactSharing
    name: str
    forward: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.sharing.compute(self.name, self.forward, args, kwargs)
