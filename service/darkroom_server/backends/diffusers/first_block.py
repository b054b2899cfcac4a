"""A cache of what a FLUX transformer's blocks add, decided row by row.

As diffusers' FirstBlockCache: after the first block, a row whose block added nearly the same as
when it was last computed skips the others and takes what they added then. diffusers decides once
for a whole batch and keeps one memory for the model; here each row has its own `FirstBlockMemory`,
which belongs to its trajectory, so rows of other images change nothing in it.

The transformer itself stays untouched: what runs is a view of it that shares its layers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

#: What a block returns: text and image states, [rows, tokens, width] each.
States = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Added:
    """What blocks added to one row in a step that computed all: `first` to the image's states.

    Tensors are [1, tokens, width].
    """

    first: torch.Tensor
    rest: States


@dataclass(slots=True)
class FirstBlockMemory:
    """What was last computed for one image; None before its first step.

    `threshold`: the relative change of the first block's addition up to which the rest is reused.
    """

    threshold: float
    added: Added | None = None


class FirstBlockCache:
    """A view of a transformer whose blocks can be skipped. Bound to the model thread."""

    def __init__(self, transformer: Any) -> None:
        self._view = copy.copy(transformer)
        self._view._modules = dict(transformer._modules)
        self._run = _Run()
        blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        wrapped = [
            _FirstBlock(blocks[0], self._run),
            *(_LaterBlock(block, self._run) for block in blocks[1:-1]),
            _LastBlock(blocks[-1], self._run),
        ]
        double_count = len(transformer.transformer_blocks)
        self._view.transformer_blocks = torch.nn.ModuleList(wrapped[:double_count])
        self._view.single_transformer_blocks = torch.nn.ModuleList(wrapped[double_count:])

    def denoise(self, inputs: dict[str, Any], memories: Sequence[FirstBlockMemory]) -> torch.Tensor:
        """One evaluation: a prediction for each row.

        `memories` has one for each row; an error leaves them unchanged.
        """
        self._run.begin(memories)
        try:
            predicted: torch.Tensor = self._view(
                **inputs, joint_attention_kwargs={}, return_dict=False
            )[0]
            self._run.keep()
        finally:
            self._run.begin(())
        return predicted


@dataclass(slots=True)
class _Run:
    """One evaluation: which rows compute all blocks, and what is to be remembered of them."""

    memories: Sequence[FirstBlockMemory] = ()
    computed: list[int] = field(default_factory=list)
    added: dict[int, Added] = field(default_factory=dict)
    _firsts: Sequence[States] = ()
    _first_added: Sequence[torch.Tensor] = ()

    def begin(self, memories: Sequence[FirstBlockMemory]) -> None:
        """Forgets all earlier rows, for an evaluation with one memory a row."""
        self.memories, self.computed, self.added = memories, [], {}
        self._firsts = self._first_added = ()

    def decide(self, first: States, added: torch.Tensor) -> None:
        """Which rows compute the rest, from what the first block made of each and added to it."""
        text, image = first
        self._firsts = list(zip(_rows(text), _rows(image), strict=True))
        self._first_added = _rows(added)
        changes = [
            _change(memory.added.first, now)
            for memory, now in zip(self.memories, self._first_added, strict=True)
            if memory.added is not None
        ]
        # One wait for the device, however many rows.
        measured = iter(torch.stack(changes).tolist() if changes else ())
        self.computed = [
            row
            for row, memory in enumerate(self.memories)
            if memory.added is None or next(measured) > memory.threshold
        ]

    def of_computed(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows that compute the rest, of all rows."""
        return rows if len(self.computed) == len(self.memories) else rows[self.computed]

    def assemble(self, last: States | None) -> States:
        """States of all rows: as computed, or the first block's and what the rest added before."""
        made = iter(() if last is None else zip(_rows(last[0]), _rows(last[1]), strict=True))
        whole = []
        for row, (memory, first) in enumerate(zip(self.memories, self._firsts, strict=True)):
            if row in self.computed:
                text, image = next(made)
                rest = (text - first[0], image - first[1])
                self.added[row] = Added(self._first_added[row].clone(), rest)
                whole.append((text, image))
            elif memory.added is not None:
                rest = memory.added.rest
                whole.append((rest[0] + first[0], rest[1] + first[1]))
        return torch.cat([text for text, _ in whole]), torch.cat([image for _, image in whole])

    def keep(self) -> None:
        """Remembers what was computed."""
        for row, added in self.added.items():
            self.memories[row].added = added


def _rows(states: torch.Tensor) -> list[torch.Tensor]:
    return [states[row : row + 1] for row in range(len(states))]


def _change(before: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    return (now - before).abs().mean() / before.abs().mean()


class _FirstBlock(torch.nn.Module):
    """Runs all rows; passes on those that compute the rest."""

    def __init__(self, block: torch.nn.Module, run: _Run) -> None:
        super().__init__()
        self._block = block
        self._run = run

    def forward(self, *, hidden_states: torch.Tensor, **inputs: Any) -> States:
        text, image = self._block(hidden_states=hidden_states, **inputs)
        self._run.decide((text, image), image - hidden_states)
        return self._run.of_computed(text), self._run.of_computed(image)


class _LaterBlock(torch.nn.Module):
    """Runs the rows that compute."""

    def __init__(self, block: torch.nn.Module, run: _Run) -> None:
        super().__init__()
        self._block = block
        self._run = run

    def forward(self, *, temb: torch.Tensor, **inputs: Any) -> States:
        if not self._run.computed:
            return inputs["encoder_hidden_states"], inputs["hidden_states"]
        states: States = self._block(temb=self._run.of_computed(temb), **inputs)
        return states


class _LastBlock(_LaterBlock):
    """Runs the rows that compute, and puts all rows together again."""

    def forward(self, *, temb: torch.Tensor, **inputs: Any) -> States:
        return self._run.assemble(
            super().forward(temb=temb, **inputs) if self._run.computed else None
        )
