"""How many replicas there should be, by the device time that waits. Runs in Serve's controller."""

from __future__ import annotations

import math
from typing import Any

#: The metric that replicas report to the controller: device seconds of the jobs that they have.
WORK_METRIC = "device_s"


def wanted_replica_count(work_s: float, wait_s: float, *, is_used: bool) -> int:
    """One replica for every `wait_s` of device time that waits, and one while there is any use.

    By time and not by number: a job of 50 steps is not one of 4.
    """
    return max(math.ceil(work_s / wait_s), int(is_used))


class DeviceSeconds:
    """The policy, as Serve makes and calls it. Serve applies bounds and delays to what it says."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The number of replicas, by the reports of all."""
        reported = (context.aggregated_metrics or {}).get(WORK_METRIC, {})
        count = wanted_replica_count(
            sum(reported.values()), self._wait_s, is_used=context.total_num_requests > 0
        )
        return count, {}
