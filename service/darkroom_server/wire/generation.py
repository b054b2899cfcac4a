"""One request from admission to its last event, for every edge alike."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from darkroom_server.access.caller import Caller, current_caller
from darkroom_server.domain.jobs import JobCompleted, Priority
from darkroom_server.domain.keys import Permission, cost_pixel_steps
from darkroom_server.domain.models import ModelInfo, ModelRef
from darkroom_server.domain.request_events import Accepted, RequestEvent, RunningModel, Validated
from darkroom_server.engine.engine import Engine, Session
from darkroom_server.image_decoding.picture_processes import Pictures
from darkroom_server.requests.image_requests import ImageRequest
from darkroom_server.requests.prepare import prepare
from darkroom_server.requests.references import check_takes
from darkroom_server.requests.resolve import Resolved
from darkroom_server.telemetry.traces import trace_job, trace_stages
from darkroom_server.wire.calls import CallNotes, current_call, note_request

_Written = TypeVar("_Written")
#: What is sent of an event, given how many events of the request were dropped before it.
Write: TypeAlias = Callable[[RequestEvent, int], Iterable[_Written]]


def unwritten(event: RequestEvent, dropped_count: int) -> Iterable[RequestEvent]:
    """The event itself, for readers that make one answer of all events."""
    del dropped_count
    return (event,)


async def generation_events(
    engine: Engine,
    pictures: Pictures,
    ref: ModelRef,
    request: ImageRequest,
    *,
    deadline_s: float | None,
    write: Write[_Written],
    is_collected: bool = False,
) -> AsyncGenerator[_Written, None]:
    """Admits a request and yields what is written of its events; closing it cancels the job.

    Nothing is yielded before admission is decided: a client may retry only until then.
    `deadline_s` is on the monotonic clock; images of what `is_collected` are kept until the end.
    The request is at the cost of the caller that the edge has named. Raises DarkroomError. Belongs
    to the engine's event loop.
    """
    call, caller = current_call(), current_caller()
    with call.admission(counts=not request.validate_only) as note_admitted:
        await caller.begin(request.task)
        if request.priority is Priority.HIGH:
            caller.require(Permission.PRIORITIZE)
        async with engine.open(ref, request.task, request_id=call.request_id) as session:
            call.runs(session.model.name, session.version, session.job_id)
            caller.require_model(session.model)
            if not request.validate_only:
                session.require_room()
            check_takes(request, session.model, lambda: _serving(engine))
            resolved = await prepare(
                request,
                session.model,
                pictures=pictures,
                adapters=session.adapters,
                choose_seed=secrets.randbelow,
            )
            note_request(call, resolved.spec)
            if request.validate_only:
                note_admitted()
                for written in (*write(_accepted(session, resolved), 0), *write(Validated(), 0)):
                    yield written
                return
            cost = cost_pixel_steps(resolved.spec, session.model.strength_rounding)
            with await caller.reserve(cost, session.progress):
                resolved = await _rewritten(engine, session.model, resolved, deadline_s)
                await session.submit(
                    resolved.spec,
                    deadline_s=deadline_s,
                    caller=caller.name,
                    weight=caller.key.weight,
                    is_collected=is_collected,
                    is_traced=trace_job(call.span, session.job_id),
                )
                note_admitted()
                for written in write(_accepted(session, resolved), 0):
                    yield written
                async for happened in session.events():
                    if isinstance(happened, JobCompleted):
                        _account(session, happened, call, caller)
                    for written in write(happened, session.dropped_count):
                        yield written


async def first_event(events: AsyncIterator[RequestEvent]) -> Accepted:
    """The first of a request's events.

    Raises the DarkroomError that the request is refused with; TypeError for events of another kind.
    """
    event = await anext(events)
    if not isinstance(event, Accepted):
        raise TypeError(f"a request began with {type(event).__name__}")
    return event


def _account(session: Session, completed: JobCompleted, call: CallNotes, caller: Caller) -> None:
    """Notes what a completed job took, for statistics, traces and the caller's key."""
    session.count(completed)
    trace_stages(call.span, completed, time.time_ns())
    call.used_device(caller.key.id, completed.account.device_s)


async def _rewritten(
    engine: Engine, model: ModelInfo, resolved: Resolved, deadline_s: float | None
) -> Resolved:
    """With the prompt as the operator has it rewritten, where the model's config says so."""
    rewriting = await engine.prompt_rewriters.rewritten(
        resolved.spec.prompt, model, deadline_s=deadline_s
    )
    return resolved.with_prompt(rewriting.prompt, rewriting.notices)


def _serving(engine: Engine) -> Iterator[ModelInfo]:
    """The models that requests can be sent to."""
    return (one.model for one in engine.list_models() if one.default_version is not None)


def _accepted(session: Session, resolved: Resolved) -> Accepted:
    model = session.model
    return Accepted.of(
        session.job_id,
        RunningModel(
            name=model.name,
            version=session.version,
            digest=session.digest,
            dtype=session.dtype.value,
            runtime=model.runtime_label,
            variant=model.memory.names(),
            made_by=session.made_by,
        ),
        resolved.spec,
        rewritten_prompt=resolved.rewritten_prompt,
        notices=resolved.notices,
    )
