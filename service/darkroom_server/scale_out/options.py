"""How models are spread over a Ray cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from darkroom_server.domain.models import BackendKind, DeviceKind, VersionInfo
from darkroom_server.repository.remote_repository import RemoteLocation

#: A cluster of this machine alone, which begins and ends with the server.
LOCAL = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleOutOptions:
    """Which cluster, and how many replicas of a version it runs.

    `address`: of the cluster, `auto` for the one this machine belongs to, `local` for one of its
    own. Without `max_replica_count` there are as many replicas as the instance groups say; with it
    there are between the two counts, one for every `wait_s` device seconds that wait. Fewer are run
    after `shrink_delay_s` in which they were enough.
    """

    address: str = LOCAL
    min_replica_count: int = 1
    max_replica_count: int = 0
    wait_s: float = 10.0
    shrink_delay_s: float = 300.0
    cpu_count: float = 1.0
    drain_s: float = 60.0
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOrder:
    """What a replica is to serve, and how; it travels to the node that runs it."""

    version: VersionInfo
    location: Path | RemoteLocation
    thread_count: int
    prompt_cache_bytes: int
    hang_limit_s: float
    memory_check: bool

    @property
    def digest(self) -> str:
        """Of everything that replicas depend on."""
        model = replace(self.version.model, version_labels={}, traffic_percent={})
        parts = (model, self.version.version, self.version.digest, self.thread_count)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def app_name(self) -> str:
        """Of the Serve application: the same order has the same one, whichever server gives it."""
        return f"{self.version.model.name}-{self.version.version}-{self.digest[:8]}"

    def needs_gpu(self, *, has_gpus: bool) -> bool:
        """Whether a replica takes a GPU of its own, in a cluster that has some or none."""
        kinds = {one.device for one in self.version.model.placements}
        is_real = self.version.model.backend is BackendKind.DIFFUSERS
        return DeviceKind.GPU in kinds or (has_gpus and is_real and DeviceKind.AUTO in kinds)

    def replica_count(self, options: ScaleOutOptions) -> int:
        """Replicas to begin with: one for each of the instance group, within the bounds."""
        count = len(self.version.model.placements)
        if not options.max_replica_count:
            return count
        return min(max(count, options.min_replica_count), options.max_replica_count)
