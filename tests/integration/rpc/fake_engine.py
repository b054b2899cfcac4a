"""An engine without workers: sessions play a script and remember what was done to them."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from darkroom_server.domain.adapters import AdapterVersion
from darkroom_server.domain.errors import ModelNotFound
from darkroom_server.domain.jobs import (
    ImageFormat,
    ImageSpec,
    JobCompleted,
    JobEvent,
    JobImage,
    JobTimings,
    Task,
)
from darkroom_server.domain.model_status import ModelStatus
from darkroom_server.domain.models import Dtype, ModelInfo, ModelRef
from darkroom_server.engine.undelivered import Undelivered
from darkroom_server.requests.prompt_upsampling import PromptRewriters
from darkroom_server.telemetry.inference_statistics import InferenceStatistics
from tests.unit.example_models import SDXL, status

#: In a script: the session waits here until it is left.
FOREVER = object()


def image(index: int = 0, content: bytes = b"picture") -> JobImage:
    return JobImage(
        image_index=index,
        format=ImageFormat.PNG,
        width_px=256,
        height_px=256,
        seed=7 + index,
        content=content,
        sha256=hashlib.sha256(content).digest(),
    )


COMPLETED = JobCompleted(image_count=1, timings=JobTimings(total_s=1.5))


@dataclass
class FakeSession:
    """What `Engine.open` yields."""

    ref: ModelRef
    task: Task
    model: ModelInfo
    script: list[object]
    submit_error: Exception | None
    job_id: str = "job-1"
    version: int = 3
    digest: str = "0123456789abcdef"
    dtype: Dtype = Dtype.FP32
    made_by: str = ""
    adapters: tuple[AdapterVersion, ...] = ()
    dropped_count: int = 0
    room_error: Exception | None = None
    spec: ImageSpec | None = None
    steps_done: tuple[int, int] = (0, 0)
    remaining_s: float | None = None
    completed: JobCompleted | None = None
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def require_room(self) -> None:
        if self.room_error is not None:
            raise self.room_error

    async def submit(
        self,
        spec: ImageSpec,
        *,
        deadline_s: float | None,
        caller: str = "",
        weight: float = 1.0,
        is_collected: bool = False,
        is_traced: bool = False,
    ) -> None:
        del is_traced
        self.spec, self.is_collected = spec, is_collected
        self.caller, self.weight = caller, weight
        self.remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
        if self.submit_error is not None:
            raise self.submit_error

    def count(self, completed: JobCompleted) -> None:
        self.completed = completed

    def progress(self) -> tuple[int, int]:
        return self.steps_done

    async def events(self) -> AsyncIterator[JobEvent]:
        for item in self.script:
            if item is FOREVER:
                self.waiting.set()
                await asyncio.Event().wait()
            if isinstance(item, Exception):
                raise item
            yield item


class FakeEngine:
    """Opens scripted sessions; `sessions` lists them in order."""

    def __init__(self) -> None:
        self.script: list[object] = [image(), COMPLETED]
        self.submit_errors: list[Exception | None] = []
        self.open_error: Exception | None = None
        self.room_error: Exception | None = None
        self.models: tuple[ModelStatus, ...] = (status(SDXL),)
        self.leaving = False
        self.request_ids: list[str] = []
        self.sessions: list[FakeSession] = []
        self.opened = asyncio.Event()
        self.undelivered = Undelivered(max_bytes=1 << 30, max_call_bytes=1 << 29)
        self.statistics = InferenceStatistics()
        self.active: list[object] = []
        self.prompt_rewriters = PromptRewriters()
        self._listeners: list[Callable[[], None]] = []

    @asynccontextmanager
    async def open(
        self, ref: ModelRef, task: Task, *, request_id: str = ""
    ) -> AsyncIterator[FakeSession]:
        self.request_ids.append(request_id)
        if self.open_error is not None:
            raise self.open_error
        error = self.submit_errors.pop(0) if self.submit_errors else None
        session = FakeSession(ref, task, self.get_model(ref.name).model, self.script, error)
        session.room_error = self.room_error
        self.sessions.append(session)
        self.opened.set()
        try:
            yield session
        finally:
            session.left.set()

    async def scanned(self) -> None:
        pass

    def list_models(self) -> tuple[ModelStatus, ...]:
        return self.models

    def get_model(self, name: str) -> ModelStatus:
        for found in self.models:
            model = found.model
            names = (model.name, f"models/{model.name}", model.hub_id, *model.aliases)
            if not name or name in names:
                return found
        raise ModelNotFound(name, f"no model {name!r}")

    def active_jobs(self):
        return iter(self.active)

    def counts(self) -> tuple[int, int]:
        return len(self.active), 1

    def is_leaving(self) -> bool:
        return self.leaving

    def is_ready(self) -> bool:
        return not self.leaving

    def is_draining(self) -> bool:
        return self.leaving

    def add_listener(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def notify(self) -> None:
        for listener in self._listeners:
            listener()
