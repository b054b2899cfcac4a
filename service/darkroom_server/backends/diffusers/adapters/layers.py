"""Adapters in use: what they add to the results of a part's layers, by image.

A layer is computed for all rows of a step at once, as if there were no adapters. What each image's
adapters add has the bits of that image alone. Nothing is merged into weights, and steps without
adapters run no line of this.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

from darkroom_server.backends.diffusers.adapters.frozen import Frozen
from darkroom_server.backends.diffusers.adapters.low_rank import AdapterSet, Layer
from darkroom_server.backends.diffusers.adapters.products import Addition, Products, Run
from darkroom_server.backends.diffusers.networks.image_rows import ImageRows
from darkroom_server.backends.diffusers.networks.present_images import PresentImages

#: Mixes of guided and unguided images whose pairs are kept put together.
_MAX_RUN_COUNT = 4
#: The additions of one image to a layer, in order.
_Additions = tuple[Addition, ...]


class Adding:
    """A layer's hook, which adds to its result. `by_image`: what each image of the step adds."""

    def __init__(
        self, present: PresentImages, products: Products, by_image: tuple[_Additions, ...]
    ) -> None:
        self._present, self._products, self._by_image = present, products, by_image
        #: For the images that are present, in turn, what is added to their rows.
        self._runs: dict[tuple[int, ImageRows], list[list[Run]]] = {}

    def __call__(self, layer: Layer, args: tuple[Any, ...], result: torch.Tensor) -> torch.Tensor:
        """The layer's result with the additions, written into it."""
        inputs: torch.Tensor = args[0]
        present = self._present
        key = present.first, present.image_rows
        rounds = self._runs.get(key)
        if rounds is None:
            by_image = self._by_image[present.first : present.last]
            numbers = range(max(map(len, by_image), default=0))
            rounds = [list(_runs(by_image, present.image_rows, number)) for number in numbers]
            if len(self._runs) >= _MAX_RUN_COUNT:
                self._runs.clear()
            self._runs[key] = rounds
        # What the layer has just made is nobody else's yet.
        for runs in rounds:
            if len(runs) == 1:
                self._products.add(layer, inputs, result, runs[0])
                continue
            # Some layers are given the tokens of all rows one after another.
            each = len(inputs) // sum(present.image_rows)
            rows = [run.row_count * each for run in runs]
            pieces = zip(inputs.split_with_sizes(rows), result.split_with_sizes(rows), strict=True)
            for run, (own, made) in zip(runs, pieces, strict=True):
                if run.additions:
                    self._products.add(layer, own, made, run)
        return result


def _runs(by_image: Sequence[_Additions], image_rows: ImageRows, number: int) -> Iterator[Run]:
    """Neighbours of equally many rows whose additions of that number are of one rank."""

    def alike(one: tuple[_Additions, int]) -> tuple[int, int]:
        additions, rows = one
        return (additions[number].pair.rank if number < len(additions) else 0), rows

    for (rank, rows), run in itertools.groupby(zip(by_image, image_rows, strict=True), alike):
        images = [additions for additions, _ in run]
        own = tuple(additions[number] for additions in images) if rank else ()
        yield Run(rows * len(images), own)


#: Hooks and the layers whose results they change, in the order in which they do.
Hooks: TypeAlias = Sequence[tuple[torch.nn.Module, Adding | Frozen]]


def hooks(
    part: str,
    module: torch.nn.Module,
    sets: Sequence[AdapterSet],
    present: PresentImages,
    products: Products,
) -> Hooks:
    """What makes a part's layers those of each image's adapters."""
    layers: dict[str, list[_Additions]] = {}
    for index, adapters in enumerate(sets):
        for one in adapters:
            for name, pair in one.adapter.parts.get(part, {}).items():
                by_image = layers.setdefault(name, [()] * len(sets))
                by_image[index] += (Addition(pair, pair.scaling(one.weight)),)
    if not layers:
        return ()
    frozen = Frozen(present, [any(part in one.adapter.parts for one in own) for own in sets])
    linear = [one for one in module.modules() if isinstance(one, torch.nn.Linear)]
    return (
        *((layer, frozen) for layer in linear),
        *(
            (module.get_submodule(name), Adding(present, products, tuple(by_image)))
            for name, by_image in layers.items()
        ),
    )


@contextmanager
def adding(hooks: Hooks) -> Iterator[None]:
    """What is computed within has the additions."""
    handles = [layer.register_forward_hook(hook) for layer, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
