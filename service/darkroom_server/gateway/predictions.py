"""Predictions that outlive their calls: kept with their images, for a limited time and number.

Bound to the event loop.
"""

from __future__ import annotations

import asyncio
import enum
import math
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from darkroom_server.background import begin
from darkroom_server.domain.errors import Cancelled, DarkroomError, GenerationFailed
from darkroom_server.domain.jobs import JobCompleted, JobImage, JobQueued, JobTimings
from darkroom_server.domain.request_events import RequestEvent
from darkroom_server.gateway.image_calls import Begun
from darkroom_server.gateway.kept_images import KEPT_S, KeptImages

MAX_PREDICTION_COUNT = 1000


class PredictionStatus(enum.Enum):
    """State of a prediction; the value is its name for callers."""

    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(slots=True, kw_only=True)
class Prediction:
    """One request and what came of it. Mutable: it grows while the request runs.

    Times are Unix times in seconds. Its id is the only permission needed to read it.
    """

    id: str
    model: str
    given: Mapping[str, Any]
    begun: Begun
    created_s: float
    status: PredictionStatus = PredictionStatus.PROCESSING
    #: How many jobs it waits for; None once it runs.
    ahead_count: int | None = 0
    error: DarkroomError | None = None
    completed_s: float | None = None
    #: Until when it is kept once it has ended, by a clock that nobody sets.
    kept_until_s: float = math.inf
    timings: JobTimings = field(default_factory=JobTimings)
    #: While it runs; then they are kept under their names.
    images: list[JobImage] = field(default_factory=list)
    image_names: tuple[str, ...] = ()
    task: asyncio.Task[None] | None = None
    #: Set, and another put in its place, whenever its standing changes.
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status is not PredictionStatus.PROCESSING

    def note(self, happened: RequestEvent) -> None:
        """Takes an event of its request."""
        if isinstance(happened, JobImage):
            self.images.append(happened)
        elif isinstance(happened, JobCompleted):
            self.timings = happened.timings
        ahead_count = happened.ahead_count if isinstance(happened, JobQueued) else None
        if ahead_count != self.ahead_count:
            self.ahead_count = ahead_count
            self.notify()

    def notify(self) -> None:
        """Wakes those who wait for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Predictions:
    """All that are kept, oldest first. `now` gives Unix time in seconds, `clock` is monotonic."""

    def __init__(
        self,
        kept: KeptImages,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.kept = kept
        self._now = now
        self._predictions: dict[str, Prediction] = {}

    def start(self, model: str, given: Mapping[str, Any], begun: Begun) -> Prediction:
        """A prediction of a request that was admitted; it runs on when its call has ended."""
        made = Prediction(
            id=secrets.token_hex(16),
            model=model,
            given=given,
            begun=begun,
            created_s=self._now(),
        )
        self._predictions[made.id] = made
        made.task = begin("prediction", self._finish(made))
        self._forget()
        return made

    def find(self, prediction_id: str) -> Prediction | None:
        """The prediction, while it is kept."""
        self._forget()
        return self._predictions.get(prediction_id)

    async def wait(self, prediction: Prediction, timeout_s: float) -> None:
        """Returns when it has ended, or after the time-out."""
        if prediction.task is not None:
            await asyncio.wait({prediction.task}, timeout=timeout_s)

    async def cancel(self, prediction: Prediction) -> None:
        """Stops its work; one that has ended stays as it is."""
        if prediction.task is not None and not prediction.has_ended:
            prediction.task.cancel()
            await self.wait(prediction, timeout_s=5.0)

    async def standings(
        self, prediction: Prediction, repeat_s: float
    ) -> AsyncGenerator[Prediction, None]:
        """The prediction now, at each change, and every `repeat_s`, until it has ended."""
        while not prediction.has_ended:
            changed = prediction.changed
            yield prediction
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), repeat_s)
        yield prediction

    async def _finish(self, made: Prediction) -> None:
        try:
            async with aclosing(made.begun.events) as events:
                async for happened in events:
                    made.note(happened)
            made.status = PredictionStatus.SUCCEEDED
        except DarkroomError as error:
            made.status, made.error = PredictionStatus.FAILED, error
        except asyncio.CancelledError:
            made.status, made.error = PredictionStatus.CANCELED, Cancelled("it was cancelled")
            raise
        finally:
            if not made.has_ended:
                # A bug, which is logged.
                made.status = PredictionStatus.FAILED
                made.error = GenerationFailed("the server failed")
            made.image_names, made.images = self.kept.keep(made.images), []
            made.completed_s = self._now()
            made.kept_until_s = self._clock() + KEPT_S
            made.notify()
            self._forget()

    def _forget(self) -> None:
        """Drops the ended that are too old or without their images, and the oldest of too many."""
        now_s = self._clock()
        for one in list(self._predictions.values()):
            is_whole = all(self.kept.find(name) for name in one.image_names)
            is_crowded = len(self._predictions) > MAX_PREDICTION_COUNT
            is_due = one.kept_until_s < now_s
            if one.completed_s is not None and (is_due or is_crowded or not is_whole):
                del self._predictions[one.id]
