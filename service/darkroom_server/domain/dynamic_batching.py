"""How requests wait for workers and run together, in Triton's terms: batches, levels, time-outs."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from darkroom_server.domain.jobs import Priority


class TimeoutAction(enum.Enum):
    """What becomes of a request that has waited too long."""

    REJECT = "reject"
    #: It lets those pass that have not, of its own and higher levels.
    DELAY = "delay"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolicy:
    """How requests of one level wait for a worker. None: without end, as many as there is room."""

    timeout_action: TimeoutAction = TimeoutAction.REJECT
    timeout_s: float | None = None
    max_queue_size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicBatching:
    """When requests that run whole run together, in images a batch; as in Triton.

    A batch of a preferred size runs at once; others wait up to `max_queue_delay_s` for more. Levels
    of priority are numbered from 1, the highest.
    """

    preferred_batch_sizes: tuple[int, ...] = ()
    max_queue_delay_s: float = 0.0
    priority_levels: int = 3
    default_priority_level: int = 2
    default_queue_policy: QueuePolicy = QueuePolicy()
    queue_policies: tuple[tuple[int, QueuePolicy], ...] = ()

    def level(self, priority: Priority) -> int:
        """The level of requests of a priority."""
        match priority:
            case Priority.HIGH:
                return 1
            case Priority.NORMAL:
                return self.default_priority_level
            case Priority.LOW:
                return self.priority_levels

    def policy(self, level: int) -> QueuePolicy:
        """How requests of a level wait."""
        return dict(self.queue_policies).get(level, self.default_queue_policy)
