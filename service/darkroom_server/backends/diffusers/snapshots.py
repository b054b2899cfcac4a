"""What steps have changed of an image, as bytes, and an image that goes on from them.

Its latents, what its scheduler keeps from step to step, its generator's state, and what a feature
cache remembers. All else `begin` makes again from the request and the seed.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch

from darkroom_server.backends.diffusers.first_block import FirstBlockMemory
from darkroom_server.backends.diffusers.trajectory import DiffusersTrajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """`scheduler`: those of its attributes that are others than when it began."""

    latents: torch.Tensor
    evaluation_count: int
    generator: torch.Tensor
    scheduler: dict[str, Any]
    memory: FirstBlockMemory | None


def snapshot(one: DiffusersTrajectory[Any, Any]) -> bytes | None:
    """A trajectory's; None where its scheduler keeps what cannot be written down."""
    taken = _Snapshot(
        latents=one.latents,
        evaluation_count=one.schedule.evaluation_count,
        generator=one.schedule.generator.get_state(),
        scheduler=one.schedule.changed(),
        memory=one.memory,
    )
    written = io.BytesIO()
    try:
        _Writer(written, protocol=5).dump(taken)
    except (pickle.PicklingError, TypeError, AttributeError):
        # As pickle says of an object of a kind that it does not know.
        return None
    return written.getvalue()


def restore(one: DiffusersTrajectory[Any, Any], state: bytes) -> None:
    """Overwrites a trajectory that has just begun."""
    taken: _Snapshot = _Reader(io.BytesIO(state), one.latents.device).load()
    one.latents = taken.latents
    one.memory = taken.memory
    one.schedule.generator.set_state(taken.generator)
    one.schedule.go_on(taken.evaluation_count, taken.scheduler)


class _Writer(pickle.Pickler):
    """Writes tensors as their bytes, which is some times as quick as torch's own way."""

    def persistent_id(self, obj: Any) -> Any:
        """All that is needed of a tensor, in the layout that it has."""
        if not isinstance(obj, torch.Tensor):
            return None
        is_channels_last = obj.dim() == 4 and not obj.is_contiguous()
        is_channels_last &= obj.is_contiguous(memory_format=torch.channels_last)
        content = obj.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        is_beside = obj.device.type == "cpu"
        return obj.dtype, tuple(obj.shape), is_channels_last, is_beside, content


class _Reader(pickle.Unpickler):
    """Puts tensors where the image is, but for those that its scheduler keeps on the processor."""

    def __init__(self, written: io.BytesIO, device: torch.device) -> None:
        super().__init__(written)
        self._device = device

    def persistent_load(self, pid: Any) -> Any:
        """A tensor."""
        dtype, shape, is_channels_last, is_beside, content = pid
        if content:
            values = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(dtype)
        else:
            values = torch.empty(0, dtype=dtype)
        values = values.reshape(shape)
        if is_channels_last:
            values = values.contiguous(memory_format=torch.channels_last)
        return values if is_beside else values.to(self._device)
