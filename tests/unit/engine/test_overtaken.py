"""Versions that are overtaken or given up while requests wait for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from darkroom_server.domain.model_status import VersionState
from tests.unit.engine.scripted import ScriptedProcess
from tests.unit.engine.test_lifecycle_machine import InPlace, Lifecycle

S = VersionState


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Lifecycle]:
    """One of the parameter's kind; afterwards all its requests must end, and all its workers."""
    made: Lifecycle = request.param()
    made.start()
    yield made
    made.teardown()


@pytest.mark.parametrize("machine", [InPlace], indirect=True)
def test_requests_that_wait_for_an_overtaken_version_are_served_by_it(machine: Lifecycle) -> None:
    machine.become_ready(0)
    for newest in (2, 3):
        machine.ask("")
        machine.put_version(newest, "a")
        machine.look()
    machine.ask("")
    versions = [one.supervisor.version.version for one in machine.requests]
    assert versions == [1, 2, 3]
    for version in versions:
        # One at a time: that is what in place means.
        assert [one.version for one in ScriptedProcess.running] == [version]
        machine.become_ready(0)
        machine.finish_a_request(0)
    assert machine.requests == []


@pytest.mark.parametrize("machine", [Lifecycle], indirect=True)
def test_a_label_leaves_a_version_that_was_given_up(machine: Lifecycle) -> None:
    machine.put_version(2, "a")
    for version in ("1", "2"):
        machine.load(version, reload=False)
        for number in (0, 1):
            machine.become_ready(number)
    machine.move_label("stable", 2)
    machine.ask("")
    second = machine.requests[0].supervisor
    assert second.version.version == 2
    machine.finish_a_request(0)
    while second.state is not S.FAILED:
        [at] = [i for i, one in enumerate(machine.alive()) if one.version == 2]
        machine.die(at)
    machine.ask("")
    assert machine.requests[0].supervisor.version.version == 1
