"""Where Serve sends a job: as `scheduling/routing.py` says. Runs on Ray's routing thread."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from darkroom_server.scale_out.load_table import table_of
from darkroom_server.scale_out.messages import RunJob


class BatchingRouter(RequestRouter):
    """Chooses among the replicas by what this server's table knows of them."""

    def initialize_state(self, **_: Any) -> None:
        """Finds the application's table."""
        self._table = table_of(self._deployment_id.app_name)

    @property
    def supports_rejection_protocol(self) -> bool:
        """Replicas take what they are given: their own admission says what they refuse, and why."""
        return False

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve says which replicas there are."""
        super().update_replicas(replicas)
        self._table.set_replicas([one.replica_id.unique_id for one in replicas])

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """The one that the job goes to; any, when it avoids all or is no job."""
        request = pending_request.args[0] if pending_request and pending_request.args else None
        if not isinstance(request, RunJob):
            return [self._known(candidate_replicas)]
        by_id = {one.replica_id.unique_id: one for one in candidate_replicas}
        chosen = self._table.place(request, by_id)
        return [self._known(candidate_replicas if chosen is None else [by_id[chosen]])]

    def _known(self, replicas: list[RunningReplica]) -> list[RunningReplica]:
        """Has them taken without asking for the lengths of their queues.

        Serve would ask each first, and a busy one that does not answer in a second is asked again
        and again while the job waits. The table knows what they have.
        """
        for one in replicas:
            self.replica_queue_len_cache.update(one.replica_id, 0)
        return replicas
