"""Decides whether versions fit into memory, by what the machine has and its workers take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from darkroom_server.domain.errors import NotEnoughMemory
from darkroom_server.domain.model_status import VersionState
from darkroom_server.domain.models import BackendKind, VersionInfo
from darkroom_server.engine.memory import MemoryProbe
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.lifecycle.memory import (
    Device,
    Idle,
    Memory,
    Need,
    need_of,
    refusal_text,
    shortage,
    victims,
)

_MIB = 1 << 20

#: What a worker takes beside its weights where none of its kind serves that could be measured: on
#: the processor 80 MiB at rest with small models, and room for what images need; on a GPU the
#: driver's context and the same.
DEFAULT_OVERHEAD_BYTES = {BackendKind.DIFFUSERS: 256 * _MIB, BackendKind.FAKE: 32 * _MIB}
GPU_OVERHEAD_BYTES = 1024 * _MIB


class MemoryGate:
    """Loop-bound. Without a probe everything fits."""

    def __init__(self, probe: MemoryProbe | None) -> None:
        self._probe = probe

    def check(self, version: VersionInfo, others: Iterable[Supervisor]) -> None:
        """Raises NotEnoughMemory, with the figures, when a version does not fit beside the others.

        Of those that are being loaded, what they have yet to take is not available.
        """
        others = tuple(others)
        if self._probe is None:
            return
        need = self._need(self._probe, version, others)
        available = self._available(self._probe, need.total_bytes, others)
        lacking = shortage(need.total_bytes, available)
        if lacking:
            name = f"{version.model.name}/{version.version}"
            raise NotEnoughMemory(version.model.name, refusal_text(name, need, available, lacking))

    def fits_beside(self, versions: Iterable[VersionInfo], others: Iterable[Supervisor]) -> bool:
        """Whether versions fit while the others serve on, grown to their measured peaks."""
        others = tuple(others)
        if self._probe is None:
            return True
        needed: Counter[Device] = Counter()
        for version in versions:
            needed.update(self._need(self._probe, version, others).total_bytes)
        for one in others:
            needed[None] += self._probe.growth_bytes(one.worker_pids)
        return not shortage(needed, self._available(self._probe, needed, others))

    def room_makers(
        self, versions: Iterable[VersionInfo], others: Iterable[Supervisor]
    ) -> tuple[Supervisor, ...]:
        """Which idle versions should leave so that others fit; none if it takes none, or if all
        of them were not enough.
        """
        others = tuple(others)
        if self._probe is None:
            return ()
        needed: Counter[Device] = Counter()
        for version in versions:
            needed.update(self._need(self._probe, version, others).total_bytes)
        lacking = shortage(needed, self._available(self._probe, needed, others))
        idle = [
            Idle(one.used_at_s, one, self._held(self._probe, one))
            for one in others
            if one.state is VersionState.READY and one.is_idle
        ]
        chosen = set(victims(lacking, idle))
        return tuple(one for one in others if one in chosen)

    def _need(
        self, probe: MemoryProbe, version: VersionInfo, others: tuple[Supervisor, ...]
    ) -> Need:
        gpu_count = probe.gpu_count()
        overhead: dict[Device, int] = dict.fromkeys(range(gpu_count), GPU_OVERHEAD_BYTES)
        overhead[None] = self._overhead_bytes(probe, version.model.backend, others)
        return need_of(version, gpu_count=gpu_count, overhead_bytes=overhead)

    def _overhead_bytes(
        self, probe: MemoryProbe, backend: BackendKind, others: tuple[Supervisor, ...]
    ) -> int:
        """Beside its weights, of a worker on the processor: the largest peak of what serves."""
        measured = [
            (probe.held_bytes(pids) + probe.growth_bytes(pids)) // len(pids) - weights
            for one in others
            if one.version.model.backend is backend
            and one.state is VersionState.READY
            and (pids := one.worker_pids)
            # Of a worker: not all of them may be up.
            and (
                weights := self._weights(probe, one).get(None, 0)
                // len(one.version.model.placements)
            )
        ]
        return max(0, *measured) if measured else DEFAULT_OVERHEAD_BYTES[backend]

    def _weights(self, probe: MemoryProbe, one: Supervisor) -> Memory:
        return need_of(one.version, gpu_count=probe.gpu_count(), overhead_bytes={}).weight_bytes

    def _held(self, probe: MemoryProbe, one: Supervisor) -> Memory:
        """What a version that serves would give back."""
        weights = self._weights(probe, one)
        if set(weights) == {None}:
            return {None: probe.held_bytes(one.worker_pids)}
        return weights

    def _available(
        self, probe: MemoryProbe, devices: Iterable[Device], others: tuple[Supervisor, ...]
    ) -> Memory:
        available: dict[Device, int] = {}
        for device in devices:
            left = probe.available_bytes(device)
            if left is not None:
                available[device] = left
        for one in others:
            if one.is_taking_memory:
                for device, weights in self._weights(probe, one).items():
                    yet = weights - probe.held_bytes(one.worker_pids, device)
                    if device in available:
                        available[device] -= max(0, yet)
        return available
