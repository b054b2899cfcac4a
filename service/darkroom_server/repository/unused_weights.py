"""Which files of a version look like weights and are used by nothing, and what they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from darkroom_server.repository.openvino_weights import ARRAYS_NAME, GRAPH_NAME

#: Of every format that weights are passed around in; pickled ones are refused, used or not.
_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".gguf",
    ".ggml",
    ".onnx",
    ".onnx_data",
    ".onnx.data",
    ".pb",
    ".msgpack",
    ".h5",
    ".hdf5",
    ".keras",
    ".ot",
    ".npz",
    ".npy",
    ".tflite",
    ".mlmodel",
    ".dduf",
    ".flashpack",
    ".engine",
    ".plan",
    ".tensors",
    ".nemo",
    ".ckpt",
    ".pt",
    ".pt2",
    ".pth",
    ".pkl",
    ".pickle",
    ".joblib",
)
#: In the names of tensors of adapters, of any trainer.
_ADAPTER_MARKS = ("lora_", ".lora", "lokr_", "hada_w", "oft_", "dora_scale")


def is_weights(name: str) -> bool:
    """Whether a file's name is one of weights."""
    lowered = name.lower()
    is_graph = lowered.rpartition("/")[2].startswith("openvino") and lowered.endswith(".xml")
    return is_graph or lowered.endswith(_SUFFIXES)


def used_weights(
    parts: Mapping[str, str], files: Collection[str], shards: Mapping[str, Collection[str]]
) -> set[str]:
    """The files that the parts are loaded from: `parts` gives each part's own file's name.

    `shards` are those that an index names, by its own name. Of a part that has both an index and
    a file of its own, diffusers reads the one and transformers the other.
    """
    used: set[str] = set()
    for part, own in parts.items():
        path = f"{part}/{own}"
        index = f"{path}.index.json"
        prefers_index = own.startswith("diffusion_")
        if index in shards and (prefers_index or path not in files):
            used.update(f"{part}/{shard}" for shard in shards[index])
        else:
            used.add(path)
    return used


def used_graphs(files: Collection[str]) -> set[str]:
    """The files that a pipeline in OpenVINO's form is loaded from."""
    return {
        name for name in files if name.count("/") == 1 and name.endswith((GRAPH_NAME, ARRAYS_NAME))
    }


def unused_weights(
    files: Collection[str], used: Collection[str], tensors: Mapping[str, Collection[str]]
) -> Iterator[tuple[str, str]]:
    """Files of weights that are not used, and what is to be said of each.

    `tensors` are the names of the tensors of those that could be read.
    """
    for name in files:
        if name in used or not is_weights(name):
            continue
        if is_adapter(tensors.get(name, ())):
            yield name, "is a LoRA or another adapter, and nothing applies it: it changes no image"
        else:
            yield name, "is used by no part of the pipeline: it changes no image"


def is_adapter(tensors: Collection[str]) -> bool:
    """Whether tensors of these names change another model's weights."""
    return any(mark in tensor for tensor in tensors for mark in _ADAPTER_MARKS)
