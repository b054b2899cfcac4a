"""Versions that are overtaken or given up while requests wait for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from darkroom_server.domain.models import VersionState
from tests.unit.engine.scripted import ScriptedInstance
from tests.unit.engine.test_lifecycle_machine import InPlace, Lifecycle

S = VersionState


@pytest.fixture
def in_place() -> Iterator[InPlace]:
    machine = InPlace()
    machine.start()
    yield machine
    machine.teardown()


@pytest.fixture
def explicit() -> Iterator[Lifecycle]:
    machine = Lifecycle()
    machine.start()
    yield machine
    machine.teardown()


def test_requests_that_wait_for_an_overtaken_version_are_served_by_it(in_place: InPlace) -> None:
    in_place.become_ready(0)
    for newest in (2, 3):
        in_place.ask("")
        in_place.put_version(newest, "a")
        in_place.look()
    in_place.ask("")
    versions = [one.supervisor.version.version for one in in_place.requests]
    assert versions == [1, 2, 3]
    for version in versions:
        # One at a time: that is what in place means.
        assert [one.version for one in ScriptedInstance.running] == [version]
        in_place.become_ready(0)
        in_place.finish_a_request(0)
    assert in_place.requests == []


def test_a_label_leaves_a_version_that_was_given_up(explicit: Lifecycle) -> None:
    explicit.put_version(2, "a")
    for version in ("1", "2"):
        explicit.load(version, reload=False)
        for number in (0, 1):
            explicit.become_ready(number)
    explicit.move_label("stable", 2)
    explicit.ask("")
    second = explicit.requests[0].supervisor
    assert second.version.version == 2
    explicit.finish_a_request(0)
    while second.state is not S.FAILED:
        [at] = [i for i, one in enumerate(explicit.alive()) if one.version == 2]
        explicit.die(at)
    explicit.ask("")
    assert explicit.requests[0].supervisor.version.version == 1
