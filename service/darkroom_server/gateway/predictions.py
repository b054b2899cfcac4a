"""Predictions that outlive their calls, and the images they made: kept for a while, and so many.

Bound to the event loop.
"""

from __future__ import annotations

import asyncio
import enum
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from darkroom_server.background import begin
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import JobImage
from darkroom_server.gateway.making import Begun
from darkroom_server.gateway.problems import words_of

#: How long an ended prediction and its images can be asked for.
KEPT_S = 3600.0
MAX_PREDICTION_COUNT = 1000
MAX_IMAGE_BYTES = 256 << 20


class PredictionStatus(enum.Enum):
    """Where a prediction stands; the value is what callers are told."""

    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(slots=True, kw_only=True)
class Prediction:
    """One request and what came of it. Mutable: it grows while the request runs.

    Times are Unix times in seconds. Whoever knows an id may have what is under it.
    """

    id: str
    model: str
    given: Mapping[str, Any]
    begun: Begun
    created_s: float
    status: PredictionStatus = PredictionStatus.PROCESSING
    error: str | None = None
    completed_s: float | None = None
    image_ids: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status is not PredictionStatus.PROCESSING


class Predictions:
    """All that are kept, oldest first. `now` gives Unix time in seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._predictions: dict[str, Prediction] = {}
        self._images: dict[str, JobImage] = {}

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

    def image(self, image_id: str) -> JobImage | None:
        """An image of a prediction that is kept."""
        self._forget()
        return self._images.get(image_id)

    async def wait(self, prediction: Prediction, timeout_s: float) -> None:
        """Returns when it has ended, or after so long."""
        if prediction.task is not None:
            await asyncio.wait({prediction.task}, timeout=timeout_s)

    async def cancel(self, prediction: Prediction) -> None:
        """Stops its work; one that has ended stays as it is."""
        if prediction.task is not None and not prediction.has_ended:
            prediction.task.cancel()
            await self.wait(prediction, timeout_s=5.0)

    async def _finish(self, made: Prediction) -> None:
        try:
            async with aclosing(made.begun.told) as told:
                async for happened, _ in told:
                    if isinstance(happened, JobImage):
                        self._keep(made, happened)
            made.status = PredictionStatus.SUCCEEDED
        except DarkroomError as error:
            made.status, made.error = PredictionStatus.FAILED, words_of(error)
        except asyncio.CancelledError:
            made.status = PredictionStatus.CANCELED
            raise
        finally:
            if not made.has_ended:
                # A bug, which is logged.
                made.status, made.error = PredictionStatus.FAILED, "the server failed"
            made.completed_s = self._now()
            self._forget()

    def _keep(self, made: Prediction, image: JobImage) -> None:
        image_id = f"{secrets.token_hex(16)}.{image.format.value.removeprefix('image/')}"
        made.image_ids.append(image_id)
        self._images[image_id] = image

    def _forget(self) -> None:
        """Drops what is too old, and of the ended the oldest while there is too much."""
        kept_bytes = sum(len(image.content) for image in self._images.values())
        oldest_s = self._now() - KEPT_S
        for one in list(self._predictions.values()):
            is_crowded = (
                len(self._predictions) > MAX_PREDICTION_COUNT or kept_bytes > MAX_IMAGE_BYTES
            )
            if one.completed_s is None or (one.completed_s >= oldest_s and not is_crowded):
                continue
            del self._predictions[one.id]
            for image_id in one.image_ids:
                kept_bytes -= len(self._images.pop(image_id).content)
