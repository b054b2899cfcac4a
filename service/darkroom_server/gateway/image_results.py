"""A request run to its end, for dialects that answer once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from darkroom_server.domain.errors import Cancelled
from darkroom_server.domain.jobs import JobCompleted, JobImage, JobTimings
from darkroom_server.domain.models import ModelRef
from darkroom_server.domain.notices import Notice
from darkroom_server.domain.request_events import Accepted
from darkroom_server.engine.engine import Engine
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.wire.generation import first_event, generation_events, unwritten

_Value = TypeVar("_Value")
_SANE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was made. `accepted` has the parameters that were run, and all notices."""

    accepted: Accepted
    images: tuple[JobImage, ...]
    timings: JobTimings

    @property
    def inference_s(self) -> float:
        """Time the request took, less its waiting."""
        return inference_s(self.timings)


def inference_s(timings: JobTimings) -> float:
    """Time that a request took, less its waiting."""
    return max(0.0, timings.total_s - timings.queue_s - timings.load_s)


async def run(engine: Engine, pictures: Pictures, ref: ModelRef, request: ImageRequest) -> Outcome:
    """Admits the request and waits for its images; cancelled, it cancels the job.

    Raises DarkroomError.
    """
    timings, images = JobTimings(), list[JobImage]()
    events = generation_events(
        engine, pictures, ref, request, deadline_s=None, write=unwritten, is_collected=True
    )
    async with aclosing(events):
        accepted = await first_event(events)
        async for event in events:
            if isinstance(event, JobImage):
                images.append(event)
            elif isinstance(event, JobCompleted):
                timings = event.timings
                accepted = accepted.with_notices(event.notices)
    return Outcome(accepted=accepted, images=tuple(images), timings=timings)


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Value]) -> _Value:
    """What the work returns or raises; once its caller has gone, stops it and raises Cancelled.

    The request's body must have been read.
    """
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Cancelled("the caller has gone")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def outcome_headers(outcome: Outcome, ignored: Sequence[str] = ()) -> dict[str, str]:
    """Seed, model, timings and warnings, as every dialect sends them with its images.

    `ignored` are names in the body that change nothing.
    """
    timings = outcome.timings
    stages = {
        "queue": timings.queue_s,
        "load": timings.load_s,
        "encode": timings.encode_s,
        "denoise": timings.denoise_s,
        "decode": timings.decode_s,
        "compress": timings.compress_s,
        "total": timings.total_s,
    }
    durations = ", ".join(f"{name};dur={s * 1000:.1f}" for name, s in stages.items())
    return {**accepted_headers(outcome.accepted, ignored), "server-timing": durations}


def _warning(notice: Notice) -> str:
    """Reason, field and those words that are plain names, with a space between them."""
    words = [word for word in notice.words if _SANE_NAME.fullmatch(word)]
    return " ".join(part for part in (notice.reason.value, notice.field, *words) if part)


def accepted_headers(accepted: Accepted, ignored: Sequence[str] = ()) -> dict[str, str]:
    """Seed, model and warnings: what is known before the images are made."""
    headers = {
        "x-darkroom-seed": ",".join(map(str, accepted.spec.seeds)),
        "x-darkroom-model": f"{accepted.model.name}/{accepted.model.version}",
    }
    warnings = [_warning(one) for one in accepted.notices]
    # A caller's own words stay out of headers unless they are plain names.
    sane = [name for name in ignored if _SANE_NAME.fullmatch(name)][:16]
    warnings += [f"PARAMETER_IGNORED {name}" for name in sane]
    if warnings:
        headers["x-darkroom-warning"] = ", ".join(warnings)
    return headers
