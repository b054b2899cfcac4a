"""What a `config.pbtxt` says of memory, and whether it can be."""

from __future__ import annotations

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.adapters import AdapterMemory
from darkroom_server.domain.memory import MemoryProfile, Offload, Quantization, StorageDtype

_Method = model_config_pb2.Quantization
_METHODS = {
    _Method.METHOD_UNSPECIFIED: None,
    _Method.METHOD_INT8_WEIGHTS: Quantization.INT8_WEIGHTS,
    _Method.METHOD_INT8: Quantization.INT8,
    _Method.METHOD_FP8_WEIGHTS: Quantization.FP8_WEIGHTS,
    _Method.METHOD_FP8: Quantization.FP8,
    _Method.METHOD_BNB_INT8: Quantization.BNB_INT8,
    _Method.METHOD_BNB_NF4: Quantization.BNB_NF4,
}
_STORAGES = {
    model_config_pb2.STORAGE_DTYPE_UNSPECIFIED: None,
    model_config_pb2.STORAGE_DTYPE_FP8_E4M3: StorageDtype.FP8_E4M3,
    model_config_pb2.STORAGE_DTYPE_FP8_E5M2: StorageDtype.FP8_E5M2,
}
_OFFLOADS = {
    model_config_pb2.OFFLOAD_UNSPECIFIED: None,
    model_config_pb2.OFFLOAD_MODEL: Offload.MODEL,
    model_config_pb2.OFFLOAD_GROUP: Offload.GROUP,
}


def memory_profile(message: model_config_pb2.ModelConfig) -> MemoryProfile:
    """The profile that the fields make up."""
    return MemoryProfile(
        quantization=_METHODS[message.quantization.method],
        quantized_parts=tuple(message.quantization.parts),
        storage=_STORAGES[message.storage_dtype],
        offload=_OFFLOADS[message.offload],
        vae_tiling_px=message.vae_tiling_above_px or None,
        channels_last=message.memory_format == model_config_pb2.MEMORY_FORMAT_CHANNELS_LAST,
    )


def adapter_memory(message: model_config_pb2.ModelConfig) -> AdapterMemory:
    """What workers may keep of adapters; below 0 is nothing."""
    usual, given = AdapterMemory(), message.adapter_memory
    host, device = given.HasField("max_host_bytes"), given.HasField("max_device_bytes")
    return AdapterMemory(
        max_host_bytes=given.max_host_bytes if host else usual.max_host_bytes,
        max_device_bytes=given.max_device_bytes if device else usual.max_device_bytes,
    )
