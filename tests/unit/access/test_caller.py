from __future__ import annotations

import asyncio

import pytest

from darkroom_server.access.caller import Caller, current_caller, used_pixel_steps
from darkroom_server.access.ledger import Uncounted
from darkroom_server.access.rates import Rates
from darkroom_server.domain.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    GenerationFailed,
    PermissionDenied,
    QueueFull,
    WorkerLost,
)
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.keys import Permission
from tests.unit.access.example_keys import api_key
from tests.unit.example_models import SDXL


@pytest.mark.parametrize(
    ("ended_by", "progress", "used"),
    [
        pytest.param(None, (0, 0), 100, id="completed"),
        pytest.param(asyncio.CancelledError, (5, 20), 25, id="cancelled-at-a-quarter"),
        pytest.param(GeneratorExit, (5, 20), 25, id="reader-gone"),
        pytest.param(Cancelled, (5, 20), 25, id="http-caller-gone"),
        pytest.param(DeadlineExceeded, (19, 20), 95, id="deadline"),
        pytest.param(asyncio.CancelledError, (0, 0), 0, id="cancelled-in-the-queue"),
        pytest.param(asyncio.CancelledError, (20, 20), 100, id="cancelled-when-all-was-done"),
        pytest.param(asyncio.CancelledError, (1, 3), 33, id="rounded-for-the-caller"),
        pytest.param(GenerationFailed, (19, 20), 0, id="failed"),
        pytest.param(WorkerLost, (19, 20), 0, id="worker-lost"),
        pytest.param(Draining, (19, 20), 0, id="cut-off"),
        pytest.param(QueueFull, (0, 0), 0, id="not-admitted"),
        pytest.param(ZeroDivisionError, (19, 20), 0, id="bug"),
    ],
)
def test_what_is_charged(
    ended_by: type[BaseException] | None, progress: tuple[int, int], used: int
) -> None:
    assert used_pixel_steps(100, ended_by, progress) == used


def caller(**changes: object) -> Caller:
    return Caller(api_key(**changes), Rates(None), Uncounted())


async def test_a_key_does_what_it_is_for() -> None:
    holder = caller(permissions=frozenset({Permission.FILL}))
    await holder.begin(Task.FILL)
    for task in (Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE):
        with pytest.raises(PermissionDenied, match="may not generate; it may: fill"):
            await holder.begin(task)


async def test_a_request_that_is_not_permitted_is_not_counted() -> None:
    holder = caller(permissions=frozenset({Permission.FILL}), rate_limit="1/hour")
    with pytest.raises(PermissionDenied):
        await holder.begin(Task.TEXT_TO_IMAGE)
    await holder.begin(Task.FILL)


def test_a_key_uses_the_models_that_it_is_for() -> None:
    for names in (("sdxl",), ("models/*",), ("example/sdxl",), ("xl",)):
        caller(models=names).require_model(SDXL)
    with pytest.raises(PermissionDenied, match=r"models/sdxl; it may use: flux-\*"):
        caller(models=("flux-*",)).require_model(SDXL)


def test_an_edge_that_forgets_to_name_its_caller_lets_nobody_in() -> None:
    with pytest.raises(LookupError):
        current_caller()


def test_callers_are_told_apart_by_their_keys_and_else_by_their_connections() -> None:
    made = api_key()
    by_key = [Caller(made, Rates(None), Uncounted(), connection=one).name for one in "ab"]
    assert by_key[0] == by_key[1] == f"key {made.id}"
    nameless = api_key(id="")
    by_connection = [Caller(nameless, Rates(None), Uncounted(), connection=one) for one in "ab"]
    assert [caller.name for caller in by_connection] == ["a", "b"]
