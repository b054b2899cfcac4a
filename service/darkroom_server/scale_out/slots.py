"""Makes the slots of versions that run on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from darkroom_server.domain.models import VersionInfo
from darkroom_server.engine.slot_contract import ServingSlot, SlotOwner
from darkroom_server.engine.supervisor import SlotMaker
from darkroom_server.engine.version_metrics import VersionMetrics
from darkroom_server.repository.remote_repository import RemoteLocation
from darkroom_server.scale_out.cluster import Cluster
from darkroom_server.scale_out.deployment_slot import DeploymentSlot
from darkroom_server.scale_out.options import ReplicaOrder


def slot_maker(
    cluster: Cluster,
    *,
    location: Path | RemoteLocation,
    threads_per_worker: Callable[[int], int],
    prompt_cache_bytes: int,
    hang_limit_s: float,
    memory_check: bool,
) -> SlotMaker:
    """One slot for all replicas of a version."""

    def make(
        version: VersionInfo, metrics: VersionMetrics, owner: SlotOwner
    ) -> Sequence[ServingSlot]:
        order = ReplicaOrder(
            version=version,
            location=location,
            thread_count=threads_per_worker(len(version.model.placements)),
            prompt_cache_bytes=prompt_cache_bytes,
            hang_limit_s=hang_limit_s,
            memory_check=memory_check,
        )
        return [DeploymentSlot(order, cluster, metrics=metrics, owner=owner)]

    return make
