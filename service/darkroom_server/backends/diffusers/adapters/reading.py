"""Adapter files of the layouts that diffusers takes, as low-rank pairs of layers.

The names of tensors are converted by diffusers' own code, and what scales them is found as its
`load_lora_weights` and peft find it, so that the products are theirs. What that would leave out
without a word is refused here.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils.peft_utils import get_peft_kwargs
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import SafetensorError, safe_open

from darkroom_server.backends.diffusers.adapters.low_rank import Adapter, LowRank, PartLayers
from darkroom_server.backends.diffusers.file_copies import copied_in_place_of

#: What peft puts before the names of a model's own layers, and where it keeps the rest.
_PEFT_PREFIX, _PEFT_CONFIG = "base_model.model.", "adapter_config.json"
#: The key of diffusers' own adapters' settings in a file's metadata.
_METADATA_KEY = "lora_adapter_metadata"
_MAX_CONFIG_BYTES = 1 << 20
#: Names that a message lists.
_TOLD_NAMES = 3

Tensors = dict[str, torch.Tensor]


class BadAdapter(ValueError):
    """The file is no adapter of this pipeline; the message says why."""


def read_adapter(file: Path, pipeline: Any, *, key: str) -> Adapter:
    """An adapter's layers on the processor, in the dtype of the parts that they add to.

    Blocking. Raises BadAdapter with the reason, or OSError.
    """
    tensors, metadata = _opened(file)
    denoiser = denoiser_name(pipeline)
    if all(name.startswith(_PEFT_PREFIX) for name in tensors):
        tensors = {f"{denoiser}.{n.removeprefix(_PEFT_PREFIX)}": t for n, t in tensors.items()}
        metadata = _peft_metadata(file, denoiser)
    tensors, alphas = _converted(tensors, pipeline)
    parts = {
        part: layers
        for part in pipeline._lora_loadable_modules
        if (layers := _part(part, tensors, alphas, metadata, pipeline))
    }
    others = [n for n in tensors if n.partition(".")[0] not in pipeline._lora_loadable_modules]
    if others:
        raise BadAdapter(f"holds what is of no part of the base model: {_listed(others)}")
    if not parts:
        raise BadAdapter("adds to no layer of the base model")
    return Adapter(key=key, parts=parts)


def takes_adapters(pipeline: Any) -> bool:
    """Whether diffusers knows how adapters of such pipelines are written."""
    return hasattr(pipeline, "lora_state_dict") and hasattr(pipeline, "_lora_loadable_modules")


def denoiser_name(pipeline: Any) -> str:
    """The part that predicts noise: `unet` or `transformer`."""
    return "unet" if "unet" in pipeline._lora_loadable_modules else "transformer"


def _opened(file: Path) -> tuple[Tensors, dict[str, Any] | None]:
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise BadAdapter(f"is no safetensors file: {error}") from error
    if not tensors:
        raise BadAdapter("holds no tensors")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise BadAdapter(f"has numbers of {tensor.dtype} in {_listed([name])}")
        if not bool(torch.isfinite(tensor).all()):
            raise BadAdapter(f"has values that are not finite in {_listed([name])}")
    written = metadata.get(_METADATA_KEY)
    return tensors, None if written is None else _json_object(written)


def _json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadAdapter("has settings that are not JSON") from error
    if not isinstance(found, dict):
        raise BadAdapter("has settings that are no JSON object")
    return found


def _peft_metadata(file: Path, denoiser: str) -> dict[str, Any] | None:
    path = file.with_name(_PEFT_CONFIG)
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        content = opened.read(_MAX_CONFIG_BYTES)
    settings = _json_object(content.decode("utf-8", "replace"))
    return {f"{denoiser}.{name}": value for name, value in settings.items()}


def _converted(tensors: Tensors, pipeline: Any) -> tuple[Tensors, dict[str, float]]:
    """Tensors by diffusers' names, and the alphas of those layouts that have them apart."""
    odd = [n for n in tensors if any(word in n for word in _OTHER_KINDS)]
    if odd:
        raise BadAdapter(f"is of another kind than LoRA: {_listed(odd)}")
    config = {"unet_config": pipeline.unet.config} if hasattr(pipeline, "unet") else {}
    state_dict = type(pipeline).lora_state_dict
    if "return_alphas" in inspect.signature(state_dict).parameters:
        config["return_alphas"] = True
    try:
        made = state_dict(dict(tensors), **config)
    except (ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise BadAdapter(f"has tensors by names that are not known: {error}") from error
    converted, alphas = made if isinstance(made, tuple) else (made, None)
    return converted, {name: float(alpha) for name, alpha in (alphas or {}).items()}


#: Words in the names of tensors of LoHa, LoKr, (IA)3, DoRA, OFT and whole layers.
_OTHER_KINDS = (
    "hada_",
    "lokr_",
    "on_input",
    "dora_scale",
    "lora_magnitude_vector",
    "oft_",
    ".diff",
)


def _part(
    part: str,
    tensors: Tensors,
    alphas: Mapping[str, float],
    metadata: Mapping[str, Any] | None,
    pipeline: Any,
) -> PartLayers:
    """What the adapter adds to one part; empty: nothing."""
    own = _own(tensors, part)
    if not own:
        return {}
    module = getattr(pipeline, part, None)
    if module is None:
        raise BadAdapter(f"adds to the part '{part}', which the base model lacks")
    is_denoiser = part == denoiser_name(pipeline)
    if not is_denoiser:
        own = convert_state_dict_to_peft(convert_state_dict_to_diffusers(own))
    elif "lora_A" not in next(iter(own)):
        own = convert_unet_state_dict_to_peft(own)
    pairs = dict(_pairs(part, own))
    known = dict(module.named_modules())
    written = None if metadata is None else _own(metadata, part)
    settings = written or _settings(own, _own(alphas, part), known, is_denoiser=is_denoiser)
    scales = _Scales(settings)
    dtype = next(module.parameters()).dtype
    return {
        name: _checked(part, name, known.get(name), down, up, scales, dtype)
        for name, (down, up) in pairs.items()
    }


def _own(values: Mapping[str, Any], part: str) -> dict[str, Any]:
    prefix = f"{part}."
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}


def _pairs(part: str, own: Tensors) -> Iterator[tuple[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Both tensors of each layer, by its name."""
    left = dict(own)
    for name in own:
        if not name.endswith(".lora_A.weight"):
            continue
        layer = name.removesuffix(".lora_A.weight")
        down, up = left.pop(name), left.pop(f"{layer}.lora_B.weight", None)
        if up is None or up.dim() < 2 or down.dim() < 2:
            raise BadAdapter(f"lacks the other half of {_listed([f'{part}.{name}'])}")
        yield layer, (down, up)
    if left:
        names = [f"{part}.{name}" for name in left]
        raise BadAdapter(f"holds what is no low-rank pair: {_listed(names)}")


def _settings(
    own: Tensors,
    alphas: Mapping[str, float],
    known: Mapping[str, torch.nn.Module],
    *,
    is_denoiser: bool,
) -> Mapping[str, Any]:
    """As diffusers makes them for peft; what comes first counts, in its order."""
    ups = {name: tensor.shape[1] for name, tensor in own.items() if "lora_B" in name}
    if is_denoiser:
        ranks = {f"^{name}": rank for name, rank in ups.items()}
    else:
        names = (f"{name}.lora_B.weight" for name in known)
        ranks = {name: ups[name] for name in names if name in ups}
    made: Mapping[str, Any] = get_peft_kwargs(
        ranks or ups, network_alpha_dict=dict(alphas), peft_state_dict=own, is_unet=is_denoiser
    )
    return made


class _Scales:
    """Alpha and its divisor for each layer, as peft reads its settings."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._patterns = {name: _patterns(name, settings.get(name)) for name in _PATTERNED}
        if settings.get("use_dora") or settings.get("lora_bias"):
            raise BadAdapter("is of another kind than LoRA: its settings ask for more than pairs")

    def of(self, layer: str) -> tuple[float, float]:
        """Alpha and divisor of a layer."""
        rank = self._by_layer("rank_pattern", layer, "r")
        alpha = self._by_layer("alpha_pattern", layer, "lora_alpha")
        if not (rank > 0 and math.isfinite(rank) and math.isfinite(alpha)):
            raise BadAdapter(f"has a rank or an alpha that is no number for {_listed([layer])}")
        return alpha, math.sqrt(rank) if self._settings.get("use_rslora") else rank

    def rank(self, layer: str) -> float:
        """The rank that the settings give a layer."""
        return self._by_layer("rank_pattern", layer, "r")

    def _by_layer(self, patterns: str, layer: str, otherwise: str) -> float:
        try:
            for pattern, value in self._patterns[patterns]:
                if pattern.match(layer):
                    return float(value)
            return float(self._settings.get(otherwise, 8))
        except (TypeError, ValueError) as error:
            raise BadAdapter(f"has settings '{patterns}' that make no sense") from error


#: Settings by patterns of layers' names. A file's patterns are somebody's: those that would take
#: without end (repetitions within repetitions), and more than any model has layers, are not tried.
_PATTERNED, _MAX_PATTERNS = ("rank_pattern", "alpha_pattern"), 4096
_QUICK_PATTERN = re.compile(r"[\w.^$\\|-]*([*+][\w.^$\\|-]*){0,2}")


def _patterns(name: str, found: Any) -> list[tuple[re.Pattern[str], Any]]:
    """What peft matches with the names of layers, and the value of each that is matched."""
    if found is None:
        return []
    if not isinstance(found, dict):
        raise BadAdapter(f"has settings '{name}' that make no sense")
    if len(found) > _MAX_PATTERNS:
        raise BadAdapter(f"has settings '{name}' for more than {_MAX_PATTERNS} layers")
    if odd := [text for text in found if not _QUICK_PATTERN.fullmatch(text)]:
        raise BadAdapter(
            f"has settings '{name}' for layers that are not plainly named: {_listed(odd)}"
        )
    try:
        return [(re.compile(rf"(.*\.)?({text})$"), value) for text, value in found.items()]
    except re.error as error:
        raise BadAdapter(f"has settings '{name}' that make no sense") from error


def _checked(
    part: str,
    name: str,
    layer: torch.nn.Module | None,
    down: torch.Tensor,
    up: torch.Tensor,
    scales: _Scales,
    dtype: torch.dtype,
) -> LowRank:
    """The pair of a layer, if it fits it."""
    shown = f"{part}.{name}"
    if layer is None:
        raise BadAdapter(f"adds to {_listed([shown])}, which the base model lacks")
    wanted = _shapes(layer, len(down))
    if wanted is None:
        raise BadAdapter(f"adds to {_listed([shown])}, which is no layer that can be added to")
    if (tuple(down.shape), tuple(up.shape)) != wanted:
        raise BadAdapter(
            f"does not fit {_listed([shown])}: it has {tuple(down.shape)} and {tuple(up.shape)}, "
            f"the base model needs {wanted[0]} and {wanted[1]}"
        )
    if scales.rank(name) != len(down):
        raise BadAdapter(f"has rank {len(down)} and settings for another in {_listed([shown])}")
    alpha, divisor = scales.of(name)
    return LowRank(_kept(down, dtype), _kept(up, dtype), alpha, divisor)


def _shapes(layer: torch.nn.Module, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """What a pair of a rank has for a layer; None where it cannot be added to."""
    if rank < 1:
        return None
    if isinstance(layer, torch.nn.Linear):
        return (rank, layer.in_features), (layer.out_features, rank)
    if isinstance(layer, torch.nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros":
        down = (rank, layer.in_channels, *layer.kernel_size)
        return down, (layer.out_channels, rank, 1, 1)
    return None


def _kept(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In memory of its own: a file that is rewritten in place would change it."""
    return copied_in_place_of(tensor) if tensor.dtype == dtype else tensor.to(dtype)


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:160]) for name in names[:_TOLD_NAMES])
    more = len(names) - _TOLD_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
