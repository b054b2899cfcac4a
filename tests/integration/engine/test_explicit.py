"""Models that are loaded, unloaded and labelled on request, on real workers with the fake model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from darkroom_server.domain.errors import (
    ControlRefused,
    InvalidParameter,
    LoadCancelled,
    ModelNotFound,
    ModelUnavailable,
    VersionNotReady,
)
from darkroom_server.domain.jobs import JobCompleted, Task
from darkroom_server.domain.model_status import LoadStage, VersionState
from darkroom_server.domain.models import ModelRef
from darkroom_server.engine.engine import Engine, EngineOptions
from darkroom_server.engine.model_control import ControlOptions, LoadReport
from darkroom_server.telemetry.metrics import Metrics
from tests.integration.engine.test_engine import WAIT_S, first_progress, submitted
from tests.integration.engine.test_updates import (
    add_version,
    picture,
    states,
    until,
    write_config,
)
from tests.unit.specs import image_spec

S = VersionState


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "models"
    write_config(root)
    add_version(root, 1)
    add_version(root, 2)
    return root


@asynccontextmanager
async def explicit(
    root: Path, *load_models: str, state_file: Path | None = None, is_explicit: bool = True
) -> AsyncIterator[Engine]:
    control = ControlOptions(
        is_explicit=is_explicit, load_models=load_models, state_file=state_file
    )
    options = EngineOptions(model_repository=root, threads_per_worker=lambda _: 1, control=control)
    engine = Engine(options, Metrics())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def load(engine: Engine, version: str = "", *, reload: bool = False) -> list[LoadReport]:
    async with asyncio.timeout(WAIT_S):
        return [one async for one in engine.control.load("fake", version, reload=reload)]


async def unload(engine: Engine, version: str = "", *, drain_s: float | None = None) -> None:
    async with asyncio.timeout(WAIT_S):
        await engine.control.unload("fake", version, drain_s=drain_s)


async def test_nothing_is_loaded_by_itself(root: Path) -> None:
    async with explicit(root) as engine:
        assert states(engine) == {1: S.UNLOADED, 2: S.UNLOADED}
        assert engine.worker_pids() == ()
        with pytest.raises(ModelUnavailable, match="no version of model 'fake' is loaded"):
            await picture(engine, 1)


@pytest.mark.parametrize("name", ["fake", "*"])
async def test_what_is_named_at_the_start_is_loaded(root: Path, name: str) -> None:
    async with explicit(root, name) as engine:
        await until(engine, lambda: states(engine)[2] is S.READY)
        assert states(engine)[1] is S.UNLOADED


async def test_a_load_reports_until_it_is_ready(root: Path) -> None:
    # Reports are the latest state: what comes faster than it is read is told as one.
    write_config(root, "fake { load_s: 2 }")
    (root / "fake" / "2" / "model.safetensors").write_bytes(bytes(1000))
    async with explicit(root) as engine:
        reports = await load(engine)
        assert reports[-1].status.is_ready()
        assert reports[-1].progress.stage is LoadStage.DONE
        told = [one.progress.loaded_bytes for one in reports]
        assert told == sorted(told)
        assert (told[-1], reports[0].progress.total_bytes) == (1000, 1000)
        stages = [one.progress.stage for one in reports]
        assert LoadStage.WEIGHTS in stages
        assert (await picture(engine, 1))[0] == 2
        # What is ready is ready at once.
        assert len(await load(engine)) == 1


async def test_one_version_is_loaded_beside_the_others_and_unloaded_alone(root: Path) -> None:
    async with explicit(root) as engine:
        await load(engine, "2")
        await load(engine, "1")
        assert states(engine) == {1: S.READY, 2: S.READY}
        await unload(engine, "2")
        assert states(engine) == {1: S.READY, 2: S.UNLOADED}
        assert (await picture(engine, 1))[0] == 1
        await unload(engine)
        assert set(states(engine).values()) == {S.UNLOADED}
        assert engine.worker_pids() == ()
        await unload(engine)


async def test_a_new_version_is_taken_when_the_model_is_loaded_again(root: Path) -> None:
    async with explicit(root) as engine:
        await load(engine)
        add_version(root, 3)
        add_version(root, 2, "other weights")
        await load(engine)
        assert engine.get_model("fake").default_version == 3
        await until(engine, lambda: states(engine)[2] is S.UNLOADED)


async def test_a_forced_reload_brings_new_workers_and_no_request_fails(root: Path) -> None:
    async with explicit(root) as engine:
        await load(engine)
        before = engine.worker_pids()
        asked = asyncio.gather(*(picture(engine, seed) for seed in range(20)))
        await load(engine, reload=True)
        await asked
        await until(engine, lambda: not set(before) & set(engine.worker_pids()))
        assert states(engine)[2] is S.READY


async def test_what_cannot_be_loaded_is_refused_with_its_reason(root: Path) -> None:
    index = root / "pipeline" / "1" / "model_index.json"
    index.parent.mkdir(parents=True)
    index.write_text("{")
    async with explicit(root) as engine:
        with pytest.raises(ModelUnavailable, match="check-repo"):
            async for _ in engine.control.load("pipeline"):
                pass
        with pytest.raises(ModelNotFound, match="no version '7'"):
            await load(engine, "7")
        with pytest.raises(ModelNotFound):
            async for _ in engine.control.load("nobody"):
                pass


BROKEN = {
    "syntax": ("config.pbtxt", "name: 3 }", "fake/config.pbtxt:2:7: error: 'name' takes text"),
    "field": ("config.pbtxt", "\nnmae: 'x'", "fake/config.pbtxt:3:1: error: unknown field 'nmae'"),
    "value": ("config.pbtxt", "max_queue_size: -1", "fake/config.pbtxt:2:"),
    "version": ("2/away", "", "fake/2/away: error: is a link that leaves the repository"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize(("version", "reload"), [("", True), ("2", True), ("", False)])
async def test_a_load_of_what_is_broken_by_now_fails_with_its_place_and_the_old_serves_on(
    root: Path, case: str, version: str, reload: bool
) -> None:
    name, text, expected = BROKEN[case]
    async with explicit(root) as engine:
        await load(engine)
        pids = engine.worker_pids()
        if text:
            write_config(root, text)
        else:
            (root / "fake" / name).symlink_to("/")
        with pytest.raises(ModelUnavailable, match=re.escape(expected)):
            await load(engine, version, reload=reload)
        status = engine.get_model("fake")
        assert status.is_ready()
        assert engine.worker_pids() == pids
        assert status.shown_version is not None
        assert expected in status.shown_version.message
        assert "refused" in status.shown_version.message
        assert (await picture(engine, 1))[0] == 2
        write_config(root)
        (root / "fake" / "2" / "away").unlink(missing_ok=True)
        await load(engine, version, reload=reload)
        status = engine.get_model("fake")
        assert status.shown_version is not None
        assert status.shown_version.message == ""


async def test_a_poll_says_in_the_listing_what_is_refused_and_why(root: Path) -> None:
    async with explicit(root, is_explicit=False) as engine:
        await until(engine, lambda: states(engine)[2] is S.READY)
        write_config(root, "\nnmae: 'x'")
        await engine.control.scan()
        status = engine.get_model("fake")
        assert status.is_ready()
        assert status.shown_version is not None
        assert "refused" in status.shown_version.message
        assert "fake/config.pbtxt:3:1: error: unknown field 'nmae'" in status.shown_version.message


async def test_ending_the_call_does_not_end_the_load(root: Path) -> None:
    write_config(root, "fake { load_s: 0.5 }")
    async with explicit(root) as engine:
        async with aclosing(engine.control.load("fake")) as reports:
            assert not (await anext(reports)).status.is_ready()
        await until(engine, lambda: states(engine)[2] is S.READY)


async def test_unloading_cancels_a_load_and_ends_who_waits_for_it(root: Path) -> None:
    write_config(root, "fake { load_s: 60 }")
    async with explicit(root) as engine:
        loading = asyncio.create_task(load(engine))
        await until(engine, lambda: states(engine)[2] is S.LOADING)
        waiting = asyncio.create_task(picture(engine, 1))
        await until(engine, lambda: engine.get_model("fake").queued_request_count == 1)
        await unload(engine)
        with pytest.raises(LoadCancelled):
            await loading
        with pytest.raises(ModelUnavailable, match="unloaded"):
            await waiting
        assert engine.worker_pids() == ()


async def test_unloading_waits_for_requests(root: Path) -> None:
    write_config(root, "fake { step_s: 0.02 }")
    async with explicit(root, "fake") as engine:
        async with submitted(engine, image_spec(step_count=20)) as session:
            await first_progress(session)
            leaving = asyncio.create_task(unload(engine))
            await until(engine, lambda: states(engine)[2] is S.UNLOADING)
            events = [event async for event in session.events()]
        assert isinstance(events[-1], JobCompleted)
        await leaving


async def test_what_takes_too_long_to_drain_is_ended_with_a_status(root: Path) -> None:
    write_config(root, "fake { step_s: 0.02 }")
    async with explicit(root, "fake") as engine:
        async with submitted(engine, image_spec(step_count=5000)) as session:
            await first_progress(session)
            await unload(engine, drain_s=0.0)
            with pytest.raises(ModelUnavailable, match="unloaded"):
                _ = [event async for event in session.events()]
        assert engine.worker_pids() == ()


async def test_a_version_deleted_during_its_load_is_loaded_or_failed_and_can_be_unloaded(
    root: Path,
) -> None:
    write_config(root, "fake { load_s: 0.5 }")
    async with explicit(root) as engine:
        loading = asyncio.create_task(load(engine))
        await until(engine, lambda: states(engine)[2] is S.LOADING)
        (root / "fake" / "2" / "weights").unlink()
        (root / "fake" / "2").rmdir()
        with contextlib.suppress(ModelUnavailable):
            await loading
        await unload(engine)
        assert set(states(engine).values()) == {S.UNLOADED}
        await load(engine)
        assert states(engine) == {1: S.READY}


@pytest.mark.parametrize("poll", [False, True])
async def test_others_than_explicit_load_nothing_on_request(root: Path, poll: bool) -> None:
    told = f"with --model-control {'poll' if poll else 'none'} .* --model-control explicit"
    control = ControlOptions(poll_s=0.05 if poll else 0.0)
    options = EngineOptions(model_repository=root, threads_per_worker=lambda _: 1, control=control)
    engine = Engine(options, Metrics())
    await engine.start()
    try:
        with pytest.raises(ControlRefused, match=told):
            await load(engine)
        with pytest.raises(ControlRefused, match=told):
            await unload(engine)
    finally:
        await engine.stop()


async def both_serve(engine: Engine) -> None:
    await until(engine, lambda: set(states(engine).values()) == {S.READY})


async def default_version(engine: Engine) -> int:
    return (await picture(engine, 1))[0]


@pytest.mark.parametrize("is_explicit", [True, False])
async def test_labels_move_to_versions_that_serve_and_back(root: Path, is_explicit: bool) -> None:
    write_config(root, 'version_policy { all {} } version_labels { key: "stable" value: 1 }')
    names = ("fake",) if is_explicit else ()
    async with explicit(root, *names, is_explicit=is_explicit) as engine:
        await both_serve(engine)
        assert await default_version(engine) == 1
        await engine.control.set_label("fake", "canary", "2")
        assert (await picture(engine, 1, "canary"))[0] == 2
        await engine.control.set_label("fake", "stable", "canary")
        assert await default_version(engine) == 2
        status = await engine.control.set_label("fake", "stable", "1")
        assert [one.labels for one in status.versions] == [("canary",), ("stable",)]
        assert await default_version(engine) == 1
        await engine.control.delete_label("fake", "stable")
        assert await default_version(engine) == 2
        with pytest.raises(ModelNotFound):
            await picture(engine, 1, "stable")


async def test_a_label_is_refused_that_cannot_be(root: Path) -> None:
    async with explicit(root) as engine:
        await load(engine)
        with pytest.raises(VersionNotReady, match="darkroom models load fake --version 1"):
            await engine.control.set_label("fake", "stable", "1")
        with pytest.raises(ModelNotFound, match=r"known: 2, 1.*models load fake --version 9"):
            await engine.control.set_label("fake", "stable", "9")
        for label in ("", "7", " a", "x" * 65):
            with pytest.raises(InvalidParameter, match="label"):
                await engine.control.set_label("fake", label, "2")
        with pytest.raises(InvalidParameter, match="no such label"):
            await engine.control.delete_label("fake", "nothing")


async def test_a_share_of_the_requests_goes_to_a_label(root: Path) -> None:
    write_config(root, "version_policy { all {} }")
    async with explicit(root, "fake") as engine:
        await both_serve(engine)

        async def versions() -> list[int]:
            found = []
            for k in range(400):
                ref, request_id = ModelRef("fake"), f"request-{k}"
                async with engine.open(ref, Task.TEXT_TO_IMAGE, request_id=request_id) as session:
                    found.append(session.version)
            return found

        await engine.control.set_label("fake", "canary", "1", traffic_percent=10)
        once = await versions()
        assert 20 <= once.count(1) <= 60
        # By the request's id, so that trying again changes nothing.
        assert await versions() == once
        await engine.control.set_label("fake", "canary", "1", traffic_percent=100)
        assert set(await versions()) == {1}
        with pytest.raises(InvalidParameter, match="110 %"):
            await engine.control.set_label("fake", "other", "2", traffic_percent=10)
        await engine.control.set_label("fake", "canary", "1", traffic_percent=0)
        assert set(await versions()) == {2}


async def test_a_restart_brings_back_what_was_loaded_and_labelled(
    root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "state.json"
    async with explicit(root, state_file=file) as engine:
        await load(engine, "1")
        await load(engine, "2")
        await engine.control.set_label("fake", "stable", "1", traffic_percent=20)
    async with explicit(root, state_file=file) as engine:
        await both_serve(engine)
        assert await default_version(engine) == 1
        assert engine.get_model("fake").versions[1].traffic_percent == 20
        await unload(engine)
    # What was unloaded stays so, whatever the flags say.
    async with explicit(root, "*", state_file=file) as engine:
        assert set(states(engine).values()) == {S.UNLOADED}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1, "loads": {"fake": ["x"]}}']
)
async def test_a_broken_state_file_is_kept_aside_and_stops_nothing(
    root: Path, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "state.json"
    file.write_bytes(content)
    async with explicit(root, "fake", state_file=file) as engine:
        await until(engine, lambda: states(engine)[2] is S.READY)
        assert file.with_name("state.json.broken").read_bytes() == content
        await unload(engine)
        assert json.loads(file.read_text())["loads"] == {"fake": []}


async def test_a_state_file_that_cannot_be_written_stops_nothing(
    root: Path, tmp_path: Path
) -> None:
    async with explicit(root, state_file=tmp_path / "gone" / "state.json") as engine:
        await load(engine)
        assert await default_version(engine) == 2
