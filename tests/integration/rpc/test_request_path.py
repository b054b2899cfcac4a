"""The files that one Generate request passes: those of docs/request-path.md."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import FrameType

import pytest

from darkroom.v1 import image_service_pb2_grpc
from darkroom.v1.image_service_pb2 import GenerateRequest
from darkroom_server.domain.jobs import JobEvent
from darkroom_server.domain.model_status import VersionState
from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.stream import JobStream
from darkroom_server.engine.worker_process import WorkerProcess
from darkroom_server.engine.worker_slot import WorkerSlot
from darkroom_server.telemetry.metrics import Metrics
from darkroom_server.worker.messages import Command, Report
from tests.architecture.sources import REPOSITORY, SERVICE
from tests.integration.engine.test_updates import add_version, states, until, write_config

PAGE = REPOSITORY / "docs" / "request-path.md"
#: That a reader has to follow, from the call to the worker; and the classes that are met there.
MAX_FILES = 15
MAX_CLASSES = 44


@contextmanager
def passed_files() -> Iterator[dict[str, set[str]]]:
    """The service's files whose functions are called in this thread, by their first call.

    With the public classes whose methods these are.
    """
    found: dict[str, set[str]] = {}

    def on_call(frame: FrameType, event: str, argument: object) -> None:
        del argument
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SERVICE):
            classes = found.setdefault(path.relative_to(SERVICE).as_posix(), set())
            owner, has_owner, _ = frame.f_code.co_qualname.partition(".")
            if has_owner and owner[0].isupper():
                classes.add(owner)

    sys.setprofile(on_call)
    try:
        yield found
    finally:
        sys.setprofile(None)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    write_config(tmp_path)
    add_version(tmp_path, 1)
    options = EngineOptions(model_repository=tmp_path, threads_per_worker=lambda _: 1)
    engine = Engine(options, Metrics())
    await engine.start()
    try:
        await until(engine, lambda: states(engine) == {1: VersionState.READY})
        yield engine
    finally:
        await engine.stop()


def listed_files(heading: str) -> list[str]:
    _, _, part = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    return re.findall(r"^\| `([a-z_/]+\.py)` \|", part.partition("\n## ")[0], re.MULTILINE)


def listed_classes() -> list[tuple[str, str]]:
    """File and class of every concept on the page."""
    _, _, part = PAGE.read_text(encoding="utf-8").partition("## The concepts\n")
    rows = re.findall(r"^\| (`[^|]+`) \| `([a-z_/]+\.py)` \|", part, re.MULTILINE)
    return [(path, name) for names, path in rows for name in re.findall(r"`(\w+)`", names)]


def calling_files() -> list[str]:
    """The service's files on the call stack, outermost first, without their callee's caller."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(SERVICE):
            found.append(path.relative_to(SERVICE).as_posix())
        frame = frame.f_back
    return list(dict.fromkeys(reversed(found)))


async def test_one_generate_request(
    images: image_service_pb2_grpc.ImageServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    way_in: list[list[str]] = []
    send = WorkerProcess.send

    def noted_send(process: WorkerProcess, command: Command) -> None:
        way_in.append(calling_files())
        send(process, command)

    def no_report(slot: WorkerSlot, report: Report) -> None:
        """The request does not end while its first event is on its way."""
        del slot, report

    monkeypatch.setattr(WorkerProcess, "send", noted_send)
    monkeypatch.setattr(WorkerSlot, "_on_report", no_report)
    request = GenerateRequest(
        model="fake", prompt="a house", width_px=64, height_px=64, step_count=1
    )
    with passed_files() as found:
        call = images.Generate(request)
        first = await anext(aiter(call))
    call.cancel()
    assert first.event.HasField("accepted")
    hops, decisions = listed_files("The way in"), listed_files("What is decided on the way")
    used = listed_files("What these use")
    # The last is the process that is written to, whose method the test stands in for.
    assert hops == [*way_in[0], "engine/worker_process.py"]
    assert len(hops + decisions) <= MAX_FILES
    listed = [*hops, *decisions, *used]
    assert len(listed) == len(set(listed))
    assert {*hops, *decisions} - set(found) == set()
    assert set(found) - set(listed) == set()
    met = {(path, name) for path, names in found.items() for name in names}
    concepts = listed_classes()
    assert met ^ set(concepts) == set()
    assert len(concepts) <= MAX_CLASSES


def suspended_generators() -> Iterator[str]:
    """The service's async generators on the call stack, that is, those that wait for an event."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if frame.f_code.co_flags & inspect.CO_ASYNC_GENERATOR and path.is_relative_to(SERVICE):
            yield f"{path.relative_to(SERVICE).as_posix()} {frame.f_code.co_name}"
        frame = frame.f_back


async def test_events_pass_one_generator_and_one_aclosing(
    images: image_service_pb2_grpc.ImageServiceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[list[str]] = []
    closed: list[str] = []
    read, enter = JobStream.__anext__, aclosing.__aenter__

    async def noted_read(stream: JobStream) -> JobEvent:
        passed.append(list(suspended_generators()))
        return await read(stream)

    async def noted_enter(closing: aclosing[AsyncIterator[object]]) -> AsyncIterator[object]:
        closed.append(getattr(closing.thing, "__name__", ""))
        return await enter(closing)

    monkeypatch.setattr(JobStream, "__anext__", noted_read)
    monkeypatch.setattr(aclosing, "__aenter__", noted_enter)
    request = GenerateRequest(
        model="fake", prompt="a house", width_px=64, height_px=64, step_count=1
    )
    assert [one.event.WhichOneof("event") async for one in images.Generate(request)][-1] == (
        "completed"
    )
    assert {tuple(one) for one in passed} == {("wire/generation.py generation_events",)}
    assert closed == ["generation_events"]
