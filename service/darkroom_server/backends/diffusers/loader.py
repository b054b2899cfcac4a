"""Loads a pipeline folder, to be driven step by step by its family, or else as it is."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import diffusers
import structlog
import torch
import transformers
from diffusers import DiffusionPipeline
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from darkroom_server.backends.base import RequestModel
from darkroom_server.backends.diffusers import families, memory, part_weights
from darkroom_server.backends.diffusers.device import Device, placed
from darkroom_server.backends.diffusers.file_copies import copied_in_place_of
from darkroom_server.backends.diffusers.network_choice import choose_network
from darkroom_server.backends.diffusers.openvino_request import load_openvino
from darkroom_server.backends.diffusers.part_progress import reporting_parts
from darkroom_server.backends.diffusers.step_model import DTYPES, AnyFamilyModel
from darkroom_server.backends.diffusers.whole_request import (
    WholeRequestModel,
    reason_against_class,
)
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.errors import ModelUnavailable
from darkroom_server.domain.models import Dtype, Placement, VersionInfo
from darkroom_server.domain.own_words import own_words

log = structlog.get_logger(__name__)


class Family(Protocol):
    """Makes a step model of a loaded pipeline."""

    def __call__(
        self, pipeline: Any, *, allowed_schedulers: Sequence[str], prompts: PromptCache
    ) -> AnyFamilyModel:
        """The step model."""
        ...


#: Characters that a status message has room for.
_TOLD_FAULTS = 3
_TORCH_DTYPES = {dtype: of_torch for of_torch, dtype in DTYPES.items()}


def load_model(
    version: VersionInfo,
    placement: Placement,
    *,
    thread_count: int,
    prompts: PromptCache,
    report_bytes: Callable[[int], None] = lambda loaded_bytes: None,  # noqa: ARG005
) -> AnyFamilyModel | RequestModel:
    """Reads the weights onto the device; raises ModelUnavailable with the reason.

    `report_bytes` is called with the bytes of weights read so far.
    """
    model = version.model
    _quiet()
    torch.set_num_threads(thread_count)
    if model.runtime == "openvino":
        return load_openvino(version, placement, thread_count=thread_count)
    family = None if model.runs_whole else family_of(model.step_model)
    if family is None:
        reason = reason_against_class(model.pipeline_class)
        if reason is not None:
            raise ModelUnavailable(model.name, f"{model.pipeline_class} {reason}.")
    place = placed(model.name, placement)
    device = place.torch
    dtype = _torch_dtype(model.dtype, place)
    components = part_weights.components(version.path)
    present = {name: part for name, part in components.items() if part != [None, None]}
    memory.check(model.name, model.memory, device, present)
    try:
        _require_weights(model.name, version.path, present)
        with reporting_parts(version.path, report_bytes):
            pipeline = DiffusionPipeline.from_pretrained(
                version.path,
                torch_dtype=dtype,
                quantization_config=memory.quantization_config(model.memory, present, dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                # Without a word, some parts must be there.
                **dict.fromkeys(components.keys() - present.keys()),
            )
    except (OSError, ValueError, TypeError, AttributeError, ImportError) as error:
        # Not what torch raises: it may be of the machine or the device, which the worker finds out.
        log.exception("pipeline does not load", model=model.name)
        raise ModelUnavailable(
            model.name, f"The pipeline does not load: {own_words(error)}"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    pipeline = memory.place(model.name, pipeline, model.memory, device)
    _own_weights(pipeline)
    if family is None:
        return WholeRequestModel(pipeline, allowed_schedulers=model.schedulers)
    made = family(pipeline, allowed_schedulers=model.schedulers, prompts=prompts)
    made.adapters.hold(model.adapter_memory)
    choose_network(made, version, device=device, thread_count=thread_count)
    return made


def family_of(step_model: str) -> Family:
    """The class of a step model by its name, with its module's, in `families`."""
    module_name, _, class_name = step_model.rpartition(".")
    module = importlib.import_module(f"{families.__name__}.{module_name}")
    family: Family = getattr(module, class_name)
    return family


def _own_weights(pipeline: DiffusionPipeline) -> None:
    """Copies what is still the file on disk: a file that is rewritten in place would change it.

    Weights that are on the processor and in the dtype they were saved in are mapped, not read. The
    copies lie as the file's do to the width of the widest vectors: kernels may round by that, and
    pictures are to be those of the weights as `from_pretrained` gives them.
    """
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for tensor in (*part.parameters(), *part.buffers()):
                # Quantized ones were computed from the file, and are never a part of it.
                if tensor.device.type == "cpu" and not is_traceable_wrapper_subclass(tensor):
                    tensor.data = copied_in_place_of(tensor.data)


def _require_weights(name: str, folder: Path, parts: Mapping[str, Sequence[str | None]]) -> None:
    """Raises ModelUnavailable for weights that are not those of the parts they are for."""
    faults = [f"{one.part} {one.message}" for one in part_weights.part_faults(folder, parts)]
    if faults:
        raise ModelUnavailable(name, f"{'; '.join(faults[:_TOLD_FAULTS])}.")


def _torch_dtype(dtype: Dtype, device: Device) -> torch.dtype:
    if dtype is Dtype.AUTO:
        return torch.float32 if device.kind is None else torch.bfloat16
    return _TORCH_DTYPES[dtype]


def _quiet() -> None:
    """Keeps libraries' notices about absent optional packages out of the logs."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    logging.getLogger("torch").setLevel(logging.ERROR)
