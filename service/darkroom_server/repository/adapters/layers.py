"""Whether an adapter's file fits a model, by names, shapes and values of its tensors.

No tensor is converted here. Names that only diffusers' own code maps to a layer are checked by what
the mapping leaves as it is, the kind of denoiser and the width of the input; the rest is checked
when they are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from darkroom_server.domain.problems import quoted
from darkroom_server.repository.weights import TensorEntry, tensor_entries

Shape = tuple[int, ...]
#: Shapes of the weights of a model's layers: by part, by the layer's name.
BaseLayers = Mapping[str, Mapping[str, Shape]]

#: Layers that trainers' tools write, each with its halves.
_HALF = re.compile(
    r"(?P<layer>.+?)\.(?:lora_(?P<letter>[AB])|lora[._](?P<way>down|up))(?:\.default)?\.weight"
)
#: What is no low-rank pair, by words in the names of its tensors.
_OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "on_input": "(IA)3",
    "oft_": "OFT",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    ".diff": "whole layers",
    ".bias": "biases",
    ".norm": "norms",
}
#: Names in the layouts of the models' authors, which diffusers' own code maps to its own, and the
#: part that has such names.
_FOREIGN = {
    "input_blocks": "unet",
    "middle_block": "unet",
    "output_blocks": "unet",
    "double_blocks": "transformer",
    "single_blocks": "transformer",
}
_PEFT, _DENOISERS = "base_model.model.", ("unet", "transformer")
#: kohya's prefixes, with underscores for dots behind them.
_KOHYA = {
    "lora_unet_": _DENOISERS,
    "lora_transformer_": _DENOISERS,
    "lora_te_": ("text_encoder",),
    "lora_te1_": ("text_encoder",),
    "lora_te2_": ("text_encoder_2",),
    "lora_te3_": ("text_encoder_3",),
}
#: Bits of the exponents of floating-point types, all set in what is not finite.
_EXPONENTS = {
    "F64": (np.uint64, 0x7FF0000000000000),
    "F32": (np.uint32, 0x7F800000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_CHUNK_BYTES = 8 << 20
_TOLD_NAMES = 3
MAX_TENSOR_COUNT = 100_000


class Misfit(ValueError):
    """The file is no adapter of the model; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an adapter adds to: ranks and parts of the pipeline, sorted."""

    ranks: tuple[int, ...]
    targets: tuple[str, ...]


def check_adapter(path: Path, size_bytes: int, base: BaseLayers) -> Found:
    """What the adapter adds to; raises Misfit, BadWeights, OSError. Blocking: reads it all."""
    entries = tensor_entries(path, size_bytes)
    if not entries:
        raise Misfit("holds no tensors")
    if len(entries) > MAX_TENSOR_COUNT:
        raise Misfit(f"holds more than {MAX_TENSOR_COUNT} tensors")
    _check_kinds(entries)
    pairs = _pairs(entries)
    ranks, targets = set[int](), set[str]()
    unknown: list[str] = []
    names = _Names(base)
    for layer, (down, up) in pairs.items():
        if len(down.shape) < 2 or len(up.shape) < 2 or up.shape[1] != down.shape[0]:
            raise Misfit(
                f"has two halves that do not fit each other in {quoted(layer)}: "
                f"{list(down.shape)} and {list(up.shape)}"
            )
        ranks.add(down.shape[0])
        part, shape = names.found(layer)
        if part:
            targets.add(part)
        if shape is None:
            unknown += [] if names.has_foreign(layer, part, down.shape[1]) else [layer]
        else:
            _check_shape(layer, down.shape, up.shape, shape)
    if unknown:
        raise Misfit(f"adds to layers that the model lacks: {_listed(unknown)}")
    _check_values(path, entries)
    return Found(tuple(sorted(ranks)), tuple(sorted(targets)))


def _check_kinds(entries: Mapping[str, TensorEntry]) -> None:
    for word, kind in _OTHER_KINDS.items():
        if odd := [name for name in entries if word in name and not _HALF.fullmatch(name)]:
            raise Misfit(f"is of another kind than LoRA ({kind}): {_listed(odd)}")
    if odd := [name for name, one in entries.items() if one.dtype not in _EXPONENTS]:
        raise Misfit(f"has tensors that are not of floating point: {_listed(odd)}")


def _pairs(
    entries: Mapping[str, TensorEntry],
) -> dict[str, tuple[TensorEntry, TensorEntry]]:
    """Both halves of each layer, by its name with whatever stands before it."""
    downs, ups = dict[str, TensorEntry](), dict[str, TensorEntry]()
    for name, entry in entries.items():
        found = _HALF.fullmatch(name)
        if found is None:
            if not name.endswith(".alpha"):
                raise Misfit(f"holds what is no low-rank pair: {_listed([name])}")
            continue
        is_down = found["letter"] == "A" or found["way"] == "down"
        (downs if is_down else ups)[found["layer"]] = entry
    if halves := downs.keys() ^ ups.keys():
        raise Misfit(f"lacks the other half of {_listed(sorted(halves))}")
    return {layer: (down, ups[layer]) for layer, down in downs.items()}


class _Names:
    """A model's layers by the names that adapters have for them."""

    def __init__(self, base: BaseLayers) -> None:
        self._base = base
        self._denoiser = next((one for one in _DENOISERS if one in base), "")
        shapes = base.get(self._denoiser, {}).values()
        self._input_counts = {shape[1] for shape in shapes if len(shape) > 1}
        #: By part, with underscores for dots. Made once an adapter, not once a layer of it.
        self._underlined: dict[str, dict[str, Shape]] = {}

    def found(self, layer: str) -> tuple[str, Shape | None]:
        """The part that a layer is of, as far as its name says it, and the shape of its weight."""
        base = self._base
        if layer.startswith(_PEFT):
            part = self._denoiser
            return part, base.get(part, {}).get(layer.removeprefix(_PEFT))
        for prefix, parts in _KOHYA.items():
            if layer.startswith(prefix):
                part = next((one for one in parts if one in base), "")
                return part, self._of(part).get(layer.removeprefix(prefix))
        part, _, name = layer.partition(".")
        return (part if part in base else ""), base.get(part, {}).get(name)

    def has_foreign(self, layer: str, part: str, input_count: int) -> bool:
        """Whether a layer that has no name here may be one of the denoiser's by another name."""
        is_kohya = layer.startswith(tuple(_KOHYA))
        if part != self._denoiser and (part or is_kohya):
            return False
        owners = {owner for word, owner in _FOREIGN.items() if word in layer}
        if ".processor." not in layer and owners != {self._denoiser}:
            return False
        # However outputs are put together or split, a layer's input stays as wide as it is.
        return input_count in self._input_counts

    def _of(self, part: str) -> dict[str, Shape]:
        if part not in self._underlined:
            layers = self._base.get(part, {})
            self._underlined[part] = {k.replace(".", "_"): shape for k, shape in layers.items()}
        return self._underlined[part]


def _check_shape(layer: str, down: Shape, up: Shape, base: Shape) -> None:
    rank = down[0]
    single = (1,) * (len(base) - 2)
    wanted = (rank, *base[1:]), (base[0], rank, *single)
    if rank < 1 or (down, up) != wanted:
        raise Misfit(
            f"does not fit {quoted(layer)}: it has {list(down)} and {list(up)}, "
            f"the model needs {list(wanted[0])} and {list(wanted[1])}"
        )


def _check_values(path: Path, entries: Mapping[str, TensorEntry]) -> None:
    with path.open("rb") as file:
        for name, entry in entries.items():
            kind, exponent = _EXPONENTS[entry.dtype]
            file.seek(entry.begin)
            for chunk in _chunks(file.read, entry.end - entry.begin):
                bits = np.frombuffer(chunk, dtype=kind)
                mask = kind(exponent)
                if bool(((bits & mask) == mask).any()):
                    raise Misfit(f"has values that are not finite in {_listed([name])}")


def _chunks(read: Callable[[int], bytes], byte_count: int) -> Iterator[bytes]:
    left = byte_count
    while left:
        chunk = read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise Misfit("was cut short while it was read")
        left -= len(chunk)
        yield chunk


def base_layers(folder: Path, names: Iterable[str]) -> BaseLayers:
    """Shapes of what a version's files name `….weight`, by part. Blocking; raises BadWeights."""
    layers: dict[str, dict[str, Shape]] = {}
    for name in names:
        part, _, file = name.partition("/")
        if not file.endswith(".safetensors") or "/" in file:
            continue
        path = folder / name
        for tensor, entry in tensor_entries(path, path.stat().st_size).items():
            if tensor.endswith(".weight"):
                layers.setdefault(part, {})[tensor.removesuffix(".weight")] = entry.shape
    return layers


def _listed(names: list[str]) -> str:
    more = len(names) - _TOLD_NAMES
    shown = ", ".join(quoted(name) for name in names[:_TOLD_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown
