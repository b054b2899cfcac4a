"""One request from admission to its last event, for every edge alike."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import TypeAlias

from darkroom.v1.image_service_pb2 import GenerationEvent
from darkroom_server.access.caller import current_caller
from darkroom_server.domain.errors import DarkroomError
from darkroom_server.domain.jobs import JobCompleted, JobEvent, Priority
from darkroom_server.domain.keys import Permission, cost_pixel_steps
from darkroom_server.domain.models import ModelInfo, ModelRef
from darkroom_server.engine.engine import Engine, Session
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.requests.prepare import prepare
from darkroom_server.requests.references import check_takes
from darkroom_server.requests.resolve import Resolved
from darkroom_server.telemetry.traces import trace_job, trace_stages
from darkroom_server.wire.calls import current_call, note_request
from darkroom_server.wire.events import EventWriter, RunningModel

#: What happened to the job, None for what comes before it, and the messages that tell of it.
Told: TypeAlias = "tuple[JobEvent | None, Iterable[GenerationEvent]]"


async def generation_events(
    engine: Engine,
    pictures: Pictures,
    ref: ModelRef,
    request: ImageRequest,
    *,
    deadline_s: float | None,
    is_collected: bool = False,
) -> AsyncGenerator[Told, None]:
    """Admits a request and tells of it until it ends; closing the generator cancels the job.

    Nothing is yielded before admission is decided: a client may retry only until then.
    `deadline_s` is on the monotonic clock; images of what `is_collected` are kept until the end.
    The request is at the cost of the caller that the edge has named. Raises DarkroomError. Belongs
    to the engine's event loop.
    """
    told = _events(engine, pictures, ref, request, deadline_s=deadline_s, is_collected=is_collected)
    call, is_admitted = current_call(), False
    async with aclosing(told):
        try:
            async for one in told:
                if not is_admitted and not request.validate_only:
                    call.admitted()
                is_admitted = True
                yield one
        except DarkroomError as error:
            if not is_admitted:
                call.refused(error)
            raise


def _serving(engine: Engine) -> Iterator[ModelInfo]:
    """The models that requests can be sent to."""
    return (one.model for one in engine.list_models() if one.default_version is not None)


async def _resolved(
    engine: Engine,
    pictures: Pictures,
    session: Session,
    request: ImageRequest,
    deadline_s: float | None,
) -> Resolved:
    """What will run, its prompt rewritten where the model's config says so and it will run."""
    resolved = await prepare(
        request,
        session.model,
        pictures=pictures,
        adapters=session.adapters,
        choose_seed=secrets.randbelow,
    )
    if request.validate_only:
        return resolved
    rewriting = await engine.prompt_rewriters.rewritten(
        resolved.spec.prompt, session.model, deadline_s=deadline_s
    )
    return resolved.with_prompt(rewriting.prompt, rewriting.notices)


async def _events(
    engine: Engine,
    pictures: Pictures,
    ref: ModelRef,
    request: ImageRequest,
    *,
    deadline_s: float | None,
    is_collected: bool,
) -> AsyncGenerator[Told, None]:
    writer = EventWriter(time.time_ns)
    call, caller = current_call(), current_caller()
    await caller.begin(request.task)
    if request.priority is Priority.HIGH:
        caller.require(Permission.PRIORITIZE)
    async with engine.open(ref, request.task, request_id=call.request_id) as session:
        call.model, call.job_id = session.model.name, session.job_id
        call.version = str(session.version)
        caller.require_model(session.model)
        if not request.validate_only:
            session.require_room()
        check_takes(request, session.model, lambda: _serving(engine))
        resolved = await _resolved(engine, pictures, session, request, deadline_s)
        note_request(call, resolved.spec)
        model = RunningModel(
            name=session.model.name,
            version=session.version,
            digest=session.digest,
            dtype=session.dtype.value,
            runtime=session.model.runtime_label,
            variant=session.model.memory.names(),
            made_by=session.made_by,
        )
        if request.validate_only:
            yield None, [writer.accepted(session.job_id, resolved, model), writer.validated()]
            return
        cost = cost_pixel_steps(resolved.spec, session.model.strength_rounding)
        with await caller.reserve(cost, session.progress):
            await session.submit(
                resolved.spec,
                deadline_s=deadline_s,
                caller=caller.name,
                weight=caller.key.weight,
                is_collected=is_collected,
                is_traced=trace_job(call.span, session.job_id),
            )
            yield None, [writer.accepted(session.job_id, resolved, model)]
            async for happened in session.events():
                if isinstance(happened, JobCompleted):
                    session.count(happened)
                    trace_stages(call.span, happened, time.time_ns())
                    call.used_device(caller.key.id, happened.account.device_s)
                yield happened, writer.write(happened, dropped_count=session.dropped_count)
