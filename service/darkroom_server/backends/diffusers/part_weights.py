"""Whether the weights of a pipeline's parts are those that the parts' configurations ask for.

The libraries fill what is missing with random numbers and drop what they do not know, with a
warning. So before a part is loaded the tensors of its files, of which the headers alone are read,
are compared with the empty part, by the libraries' own rules for renamed, tied and dropped ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate  # type: ignore[import-untyped]
import diffusers
import torch
import transformers
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors import safe_open

#: Parts whose pipeline lends them modules of another part, which are saved with them and are not
#: read again: their places are empty.
_BORROWING = ("ZImageControlNetModel",)
#: Tensors that are named of faults of one kind.
_NAMED_COUNT = 3


@dataclass(frozen=True, slots=True)
class PartFault:
    """What is wrong with the weights of a part."""

    part: str
    message: str


@dataclass(frozen=True, slots=True)
class _Difference:
    """Names of tensors by what is wrong with them."""

    missing: Collection[str]
    unexpected: Collection[str]
    #: With the shape in the file and the one that is asked for.
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]


def components(folder: Path) -> dict[str, list[str | None]]:
    """The parts that a pipeline's index names, as [library, class]; absent ones have neither."""
    index = diffusers.DiffusionPipeline.load_config(folder, local_files_only=True)
    return {
        name: part for name, part in index.items() if not name.startswith("_") and _is_part(part)
    }


def _is_part(value: object) -> bool:
    """Whether an entry of the index is a part: a pipeline has settings that are lists, too."""
    match value:
        case [str(), str()] | [None, None]:
            return True
        case _:
            return False


def part_faults(folder: Path, parts: Mapping[str, Sequence[str | None]]) -> Iterator[PartFault]:
    """The faults of parts of a pipeline, given as `components` gives them.

    Blocking; builds the parts without memory for their weights. Raises what the libraries raise
    for a configuration that they make nothing of.
    """
    for name, (library, kind) in parts.items():
        part_class = _class_of(library, kind)
        # Packed weights have names and shapes of their own.
        if part_class is not None and not _is_quantized(folder / name):
            for message in _messages(_difference(part_class, folder / name)):
                yield PartFault(name, message)


def _class_of(library: str | None, kind: str | None) -> Any:
    """The class of a part with weights of its own, None for others."""
    if kind == StableDiffusionSafetyChecker.__name__:
        return StableDiffusionSafetyChecker
    libraries = {"diffusers": diffusers, "transformers": transformers}
    found = getattr(libraries.get(library or ""), kind or "", None)
    has_weights = isinstance(found, type) and issubclass(
        found, diffusers.ModelMixin | transformers.PreTrainedModel
    )
    return found if has_weights else None


def _difference(part_class: Any, folder: Path) -> _Difference:
    if issubclass(part_class, diffusers.ModelMixin):
        part, difference = _of_diffusers(part_class, folder)
    else:
        part, difference = _of_transformers(part_class, folder)
    # Tables that older releases saved, and that every part computes for itself.
    computed = [name for name, _ in part.named_buffers()]
    unexpected = [
        name
        for name in difference.unexpected
        if not any(_is_same(name, other) for other in computed)
    ]
    return _Difference(difference.missing, unexpected, difference.misshaped)


def _of_diffusers(part_class: Any, folder: Path) -> tuple[torch.nn.Module, _Difference]:
    own_name = diffusers.utils.SAFETENSORS_WEIGHTS_NAME
    files = _files(folder, own_name, prefers_index=True)
    with accelerate.init_empty_weights():
        part = part_class.from_config(part_class.load_config(folder, local_files_only=True))
    found = _empty_tensors(files)
    if files == [folder / own_name]:
        # The library renames nothing in shards.
        part._fix_state_dict_keys_on_load(found)
    wanted = part.state_dict()
    dropped = [re.compile(one) for one in part_class._keys_to_ignore_on_load_unexpected or ()]
    return part, _Difference(
        missing=wanted.keys() - found.keys(),
        unexpected=[
            name
            for name in found.keys() - wanted.keys()
            if not any(one.search(name) for one in dropped) and not _is_lent(part, name)
        ],
        misshaped={
            name: (tuple(found[name].shape), tuple(tensor.shape))
            for name, tensor in wanted.items()
            if name in found and found[name].shape != tensor.shape
        },
    )


def _is_lent(part: torch.nn.Module, name: str) -> bool:
    first = name.partition(".")[0]
    return type(part).__name__ in _BORROWING and getattr(part, first, part) is None


def _of_transformers(part_class: Any, folder: Path) -> tuple[torch.nn.Module, _Difference]:
    files = _files(folder, transformers.utils.SAFE_WEIGHTS_NAME, prefers_index=False)
    part, info = part_class.from_pretrained(
        None,
        config=part_class.config_class.from_pretrained(folder, local_files_only=True),
        state_dict=_empty_tensors(files),
        device_map="meta",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return part, _Difference(
        missing=info["missing_keys"],
        unexpected=info["unexpected_keys"],
        misshaped={
            name: (tuple(found), tuple(wanted)) for name, found, wanted in info["mismatched_keys"]
        },
    )


def _files(folder: Path, own_name: str, *, prefers_index: bool) -> list[Path]:
    """The files that a part is loaded from: its own, or its shards."""
    own, index = folder / own_name, folder / f"{own_name}.index.json"
    if index.is_file() and (prefers_index or not own.is_file()):
        shards = json.loads(index.read_bytes())["weight_map"].values()
        return [folder / shard for shard in sorted(set(shards))]
    return [own]


def _empty_tensors(files: Collection[Path]) -> dict[str, torch.Tensor]:
    """Every tensor of some files, by its name and shape alone."""
    tensors = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (no mapping)
                shape = opened.get_slice(name).get_shape()
                tensors[name] = torch.empty(shape, device="meta")
    return tensors


def _is_quantized(folder: Path) -> bool:
    """Whether a part was saved with its weights packed."""
    return bool(json.loads((folder / "config.json").read_bytes()).get("quantization_config"))


def _is_same(name: str, other: str) -> bool:
    """Whether two names are one but for what a part inside another puts before its own."""
    return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")


def _messages(difference: _Difference) -> Iterator[str]:
    if difference.missing:
        yield (
            f"lacks {_tensors(difference.missing)}: they would be filled with random numbers; copy "
            "the weights again, or the config.json that belongs to them"
        )
    if difference.unexpected:
        yield (
            f"has {_tensors(difference.unexpected)} that the part does not have: copy the weights "
            "again, or the config.json that belongs to them"
        )
    for name, (found, wanted) in sorted(difference.misshaped.items())[:_NAMED_COUNT]:
        more = len(difference.misshaped) - _NAMED_COUNT
        others = f" (and {more} more)" if more > 0 else ""
        yield f"has tensor '{name}' of shape {list(found)}, not {list(wanted)}{others}"


def _tensors(names: Collection[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in sorted(names)[:_NAMED_COUNT])
    more = len(names) - _NAMED_COUNT
    counted = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{counted} ({shown}{f' and {more} more' if more > 0 else ''})"
