"""Which versions are to be loaded: as the repository says, or as requests do. Loop-bound."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog

from darkroom_server.background import begin
from darkroom_server.domain.errors import (
    ControlRefused,
    DarkroomError,
    InvalidParameter,
    ModelNotFound,
    ModelUnavailable,
    VersionNotReady,
)
from darkroom_server.domain.labels import label_fault
from darkroom_server.domain.model_status import LoadProgress, ModelStatus, VersionState
from darkroom_server.engine.config_overrides import ConfigOverrides
from darkroom_server.engine.load_failure import load_failure
from darkroom_server.engine.manager import Manager
from darkroom_server.engine.memory_gate import MemoryGate
from darkroom_server.engine.state_keeper import StateKeeper
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.lifecycle.desired_state import DesiredState
from darkroom_server.lifecycle.labels import MovedLabels, check_shares
from darkroom_server.lifecycle.resolution import known_version, resolve_model
from darkroom_server.repository.location import Repository
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan

log = structlog.get_logger(__name__)

#: The shortest pause between two scans of a repository of which not all is there yet.
MIN_PAUSE_S = 0.2

_NUMBER = re.compile("[0-9]{1,19}")
_ON_ITS_WAY = (VersionState.LOADING, VersionState.UNAVAILABLE)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlOptions:
    """What decides which versions are loaded.

    With `is_explicit`, only `load_models` are loaded at the start, those that `state_file` lists
    from the last run, and those that requests load. The repository is scanned every
    `poll_s`; 0: only at the start. Files that changed within the last `settle_s` are not loaded.
    """

    is_explicit: bool = False
    load_models: tuple[str, ...] = ()
    state_file: Path | None = None
    poll_s: float = 0.0
    settle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadReport:
    """How a model and its load are now."""

    status: ModelStatus
    progress: LoadProgress


class ModelControl:
    """Passes on to the manager what should be loaded, and answers load and unload requests."""

    def __init__(
        self, options: ControlOptions, repository: Repository, manager: Manager, gate: MemoryGate
    ) -> None:
        self._options = options
        self._repository = repository
        self._overrides = ConfigOverrides(repository)
        self._manager = manager
        self._gate = gate
        self._scan_lock = asyncio.Lock()
        self._desired = DesiredState(is_explicit=options.is_explicit)
        self._keeper = StateKeeper(options.state_file)
        self._begun = asyncio.Event()
        self._changed = asyncio.Event()
        #: Loads and unloads go on when those who asked for them have gone.
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> RepositoryScan:
        """Reads the state file and the repository; nothing is loaded before `begin`."""
        saved = await self._keeper.read()
        await self._scan()
        self._desired.restore(saved, self._options.load_models)
        self._request_pending()
        return self._desired.wanted()

    def begin(self) -> None:
        """Starts loading what should be."""
        self._apply_desired()
        self._begun.set()

    async def begun(self) -> None:
        """Waits until the repository has been read: before that no name of a model is known."""
        await self._begun.wait()

    async def watch(self) -> None:
        """Scans repeatedly, or until no file is being written any more."""
        poll_s = self._options.poll_s
        while poll_s or self._desired.scan.is_unfinished:
            await asyncio.sleep(poll_s or max(self._options.settle_s, MIN_PAUSE_S))
            await self.scan()
        for name in self._desired.pending:
            log.error("model to be loaded is not there", model=name)

    async def scan(self) -> RepositoryScan:
        """Reads the repository now, begins what follows of it, and returns what it read."""
        async with self._scan_lock:
            await self._scan()
        self._request_pending()
        self._apply_desired()
        return self._desired.last_scan

    async def stop(self) -> None:
        """Leaves loads and unloads to those who stop the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Ends what the repository is doing; after the workers, which may still read from it."""
        await asyncio.to_thread(self._repository.close)

    def notify(self) -> None:
        """A version's status is another."""
        # Those who wait have this event; those to come wait for the next one.
        self._changed.set()
        self._changed = asyncio.Event()

    async def load(
        self,
        name: str,
        version: str = "",
        *,
        evict_idle: bool = False,
        reload: bool = False,
        config: str | None = None,
    ) -> AsyncGenerator[LoadReport]:
        """Loads a model, or one version of it, and reports until it is READY. `config` is JSON of
        fields that replace those of its config, until it is loaded without.

        Raises ControlRefused, ModelNotFound, ModelUnavailable, NotEnoughMemory, LoadCancelled.
        Closing the generator stops the reports, not the load.
        """
        self._require_explicit(name)
        await self.begun()
        begin = self._begin_load(name, version, evict_idle=evict_idle, reload=reload, config=config)
        loading = await self._unstoppable(begin)
        last: LoadReport | None = None
        while True:
            changed = self._changed
            states = {one.state for one in loading}
            is_ready = states == {VersionState.READY}
            if not is_ready and states.isdisjoint(_ON_ITS_WAY):
                raise load_failure(loading)
            report = self._report(loading)
            if report != last:
                yield report
                last = report
            if is_ready:
                return
            await changed.wait()

    async def _begin_load(
        self, name: str, version: str, config: str | None, *, evict_idle: bool, reload: bool
    ) -> tuple[Supervisor, ...]:
        await self.scan()
        number = int(version) if _NUMBER.fullmatch(version) else 0
        self._require_read(name.removeprefix("models/"), (number,))
        model = resolve_model(self._desired.scan, name)
        found = model.info.name
        await self._overrides.change(found, config, self.scan)
        model = resolve_model(self._desired.scan, found)
        self._desired.forget_pending(found)
        numbers = (self._known_version(model, version),) if version else model.serving
        if not numbers:
            raise ModelUnavailable(found, f"the version policy of {found} chooses no version")
        self._require_read(found, numbers)
        if evict_idle:
            await self._make_room(model, numbers)
        self._desired.request(model, numbers, in_place=not version)
        self._apply_desired(
            reload=[(found, one) for one in self._stale(found, numbers, reload=reload)]
        )
        await self._save()
        return self._manager.wanted(found, numbers)

    def _require_read(self, name: str, numbers: Collection[int]) -> None:
        """Raises ModelUnavailable for what cannot be read now, though it may serve as it was."""
        why = self._desired.why_unread(name, numbers)
        if why:
            raise ModelUnavailable(
                name, f"{name} is not loaded as it is now: {why}; `darkroom check-repo` says all"
            )

    async def _make_room(self, model: RepositoryModel, numbers: Iterable[int]) -> None:
        """Unloads versions that no request holds if it takes that, the longest unused first."""
        name = model.info.name
        loaded = [
            one.version.version
            for one in self._manager.live(name)
            if one.state is not VersionState.FAILED
        ]
        wanted = [one for one in model.versions if one.version in numbers]
        missing = [one for one in wanted if one.version not in loaded]
        others = [one for one in self._manager.supervisors() if one.version.model.name != name]
        leaving: dict[Supervisor, asyncio.Task[None]] = {}
        for one in self._gate.room_makers(missing, others):
            other, number = one.version.model.name, one.version.version
            log.info("idle version makes room", model=f"{other}/{number}", room_for=name)
            self._desired.withdraw(other, {number})
            self._apply_desired()
            leaving |= self._manager.leaving(other, {number})
        if leaving:
            await asyncio.wait(leaving.values())

    def _known_version(self, model: RepositoryModel, version: str) -> int:
        """A version by number, or by a label, moved or configured; raises ModelNotFound."""
        name = model.info.name
        for known in self._manager.view.models:
            if known.info.name == name and version in known.info.version_labels:
                version = str(known.info.version_labels[version])
        return known_version(model, version)

    def _stale(self, name: str, numbers: Iterable[int], *, reload: bool) -> list[int]:
        """What is to be loaded again although its files are the same."""
        return [
            one.version.version
            for one in self._manager.live(name)
            if one.version.version in numbers and (reload or one.state is VersionState.FAILED)
        ]

    def _report(self, loading: tuple[Supervisor, ...]) -> LoadReport:
        first, *others = (one.progress for one in loading)
        return LoadReport(self._status(loading[0].version.model.name), sum(others, first))

    async def unload(
        self, name: str, version: str = "", *, drain_s: float | None = None
    ) -> ModelStatus:
        """Lets a model, or one version of it, leave, and returns when it has.

        Requests that hold it have `drain_s` to end, None: as long as they need; a load that has not
        ended is cancelled at once. Raises ControlRefused, ModelNotFound, ModelUnavailable.
        """
        self._require_explicit(name)
        await self.begun()
        model = resolve_model(self._manager.view, name)
        found = model.info.name
        numbers = {one.version for one in model.versions}
        if version:
            numbers = {known_version(model, version)}
        loading = [
            one
            for one in self._manager.live(found)
            if one.version.version in numbers and one.state is VersionState.LOADING
        ]
        self._desired.unload(model, numbers)
        self._desired.forget_pending(found)
        self._apply_desired()
        for one in loading:
            one.cut_off()
        await self._unstoppable(self._end_unload(found, numbers, drain_s))
        try:
            return self._status(found)
        except ModelNotFound:
            # Its folder had gone before; now there is nothing left of it.
            return ModelStatus(model=model.info, versions=(), default_version=None)

    async def _end_unload(self, name: str, numbers: set[int], drain_s: float | None) -> None:
        await self._save()
        leaving = self._manager.leaving(name, numbers)
        if not leaving:
            return
        _, late = await asyncio.wait(leaving.values(), timeout=drain_s)
        if late:
            for one in leaving:
                one.cut_off()
            await asyncio.wait(late)

    async def set_label(
        self, name: str, label: str, version: str, *, traffic_percent: float | None = None
    ) -> ModelStatus:
        """Points a label at a version that serves, and sets the share of requests it is given.

        Raises InvalidParameter, ModelNotFound, ModelUnavailable, VersionNotReady.
        """
        fault = label_fault(label)
        if fault:
            raise InvalidParameter("label", f"the label {fault}")
        await self.begun()
        model = resolve_model(self._manager.view, name)
        found = model.info.name
        number = self._labelled_version(model, version)
        states = {one.version: one.state for one in self._manager.status(model).versions}
        if states[number] is not VersionState.READY:
            raise VersionNotReady(
                found,
                f"version {number} of {found} is {states[number].value}: a label can only point at "
                f"one that is ready; {self._way_to_ready(found, number)}",
            )
        moved = self._desired.labels_of(found).moved(label, number, traffic_percent)
        check_shares(moved.shares_over(model.info.traffic_percent))
        return await self._label(found, moved)

    def _labelled_version(self, model: RepositoryModel, version: str) -> int:
        """The one that a label is to point at; a load may find one that is not known yet."""
        try:
            return known_version(model, version)
        except ModelNotFound as error:
            if self._options.is_explicit and version.isascii() and version.isdecimal():
                load = f"`darkroom models load {model.info.name} --version {version}`"
                error.args = (f"{error}; a folder that has come since is read by {load}",)
            raise

    def _way_to_ready(self, name: str, number: int) -> str:
        if self._options.is_explicit:
            return f"load it first, `darkroom models load {name} --version {number}`"
        return (
            "let `version_policy` of its config.pbtxt name it, or serve with "
            "--model-control explicit and load it"
        )

    async def delete_label(self, name: str, label: str) -> ModelStatus:
        """Removes a label; raises InvalidParameter, ModelNotFound, ModelUnavailable."""
        await self.begun()
        model = resolve_model(self._manager.view, name)
        found = model.info.name
        if label not in model.info.version_labels:
            known = ", ".join(sorted(model.info.version_labels)) or "none"
            raise InvalidParameter("label", f"{found} has no such label (labels: {known})")
        return await self._label(found, self._desired.labels_of(found).deleted(label))

    async def _label(self, name: str, moved: MovedLabels) -> ModelStatus:
        self._desired.set_labels(name, moved)
        self._apply_desired()
        await self._unstoppable(self._save())
        return self._status(name)

    def _status(self, name: str) -> ModelStatus:
        return self._manager.status(resolve_model(self._manager.view, name))

    def _require_explicit(self, name: str) -> None:
        if not self._options.is_explicit:
            mode = "poll" if self._options.poll_s else "none"
            raise ControlRefused(
                name,
                f"this server runs with --model-control {mode} and serves what its repository "
                "holds; models are loaded and unloaded on request with --model-control explicit",
            )

    def _apply_desired(self, reload: Iterable[tuple[str, int]] = ()) -> None:
        desired = self._desired
        self._manager.update(desired.wanted(), moved=desired.moved_labels, reload=reload)

    def _request_pending(self) -> None:
        for one in self._desired.request_pending():
            log.error("version to be loaded is not there", model=f"{one.model}/{one.version}")

    async def _scan(self) -> None:
        """Reads the repository; problems are logged when they are new."""
        in_use = {one.version.path for one in self._manager.supervisors()}
        in_use |= self._desired.requested_paths
        scan = await asyncio.to_thread(self._repository.scan, in_use)
        for problem in self._desired.update(scan):
            log.warning("model repository", problem=str(problem))

    async def _save(self) -> None:
        await self._keeper.save(self._desired.saved)

    async def _unstoppable(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Does the work to its end, also when the one who waits for it goes away."""
        task = begin("load or unload", work, expected=(DarkroomError,))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)
