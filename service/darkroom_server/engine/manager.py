"""Brings what is loaded to what should be: updates beside or in place of the old. Loop-bound."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import structlog

from darkroom_server.background import begin
from darkroom_server.domain.errors import ModelUnavailable, NotEnoughMemory
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.model_status import ModelStatus, VersionState, VersionStatus
from darkroom_server.domain.models import ModelInfo, UpdatePolicy, VersionInfo
from darkroom_server.engine.memory_gate import MemoryGate
from darkroom_server.engine.supervisor import Supervisor
from darkroom_server.lifecycle.labels import MovedLabels, in_force
from darkroom_server.lifecycle.policy import Edition, Live, Plan, plan_update
from darkroom_server.lifecycle.resolution import default_models
from darkroom_server.repository.scan import RepositoryModel, RepositoryScan

log = structlog.get_logger(__name__)

#: Pauses before a failed load is tried again.
FIRST_RETRY_S, MAX_RETRY_S = 15.0, 600.0
#: Which of several is asked for more: states in which requests are served sooner come first.
_SOONEST = (
    VersionState.READY,
    VersionState.UNAVAILABLE,
    VersionState.LOADING,
    VersionState.FAILED,
)


class Manager:
    """The loaded versions of all models, by what was last seen in the repository."""

    def __init__(
        self,
        make: Callable[[VersionInfo, Callable[[], None]], Supervisor],
        *,
        gate: MemoryGate,
        retries: bool,
        default_model: str = "",
        on_change: Callable[[], None],
    ) -> None:
        self._make = make
        self._gate = gate
        self._retries = retries
        self._default_model = default_model
        self._defaults: dict[Task, str] = {}
        self._on_change = on_change
        self._is_due = self._is_stopping = False
        #: What should be loaded.
        self.scan = RepositoryScan(models=(), broken=(), problems=())
        self._live: dict[str, dict[Edition, Supervisor]] = {}
        self._leaving: dict[Supervisor, asyncio.Task[None]] = {}
        self._starting: set[asyncio.Task[None]] = set()
        #: Labels as they are in force: they follow the wanted ones to versions that serve.
        self._labels: dict[str, dict[str, int]] = {}
        self._moved: Mapping[str, MovedLabels] = {}
        self._reload_count: Counter[tuple[str, int]] = Counter()
        #: How versions were configured when they were last seen, but for what labels say.
        self._configs: dict[tuple[str, int], ModelInfo] = {}
        #: What requests of each model got last that named no version.
        self._served: dict[str, Supervisor] = {}
        #: How often loads failed and were tried again.
        self._retry_count: dict[tuple[str, Edition], int] = {}
        #: What requests are resolved against: `serving` are loaded versions, the default first.
        self.view = self.scan

    def update(
        self,
        scan: RepositoryScan,
        *,
        moved: Mapping[str, MovedLabels] | None = None,
        reload: Iterable[tuple[str, int]] = (),
    ) -> None:
        """Takes the versions that should be loaded, and begins the loads and unloads that are due.

        `moved` are the labels that requests moved, as before if None. Models and versions of
        `reload` are loaded again, and so are those whose configuration has changed.
        """
        self.scan = scan
        if moved is not None:
            self._moved = moved
        self._reload_count.update(reload)
        self._reload_count.update(self._reconfigured(scan))
        self._reconcile()

    def _reconfigured(self, scan: RepositoryScan) -> list[tuple[str, int]]:
        """Versions whose configuration is another than when they were last seen."""
        changed = []
        for version in (one for model in scan.models for one in model.versions):
            key = (version.model.name, version.version)
            config = replace(version.model, version_labels={}, traffic_percent={})
            if self._configs.setdefault(key, config) != config:
                self._configs[key] = config
                changed.append(key)
        return changed

    def _changed(self) -> None:
        """A version's status is another: what follows of it is begun soon, once for many."""
        if not self._is_due and not self._is_stopping:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._reconcile)
        self._look()
        self._on_change()

    def _reconcile(self) -> None:
        self._is_due = False
        if self._is_stopping:
            return
        for model in self.scan.models:
            self._reconcile_model(model)
        known = {model.info.name for model in self.scan.models}
        for name in [name for name in self._live if name not in known]:
            for edition in list(self._live[name]):
                self._let_go(name, edition)
        self._look()
        self._on_change()

    def _edition(self, version: VersionInfo) -> Edition:
        count = self._reload_count[version.model.name, version.version]
        return Edition(version.version, version.digest, count)

    def _reconcile_model(self, model: RepositoryModel) -> None:
        name = model.info.name
        wanted = {
            self._edition(version): version
            for version in model.versions
            if version.version in model.serving
        }
        policy = self._policy(name, tuple(wanted), model)
        plan = self._plan(name, tuple(wanted), policy)
        for edition in plan.leave:
            self._let_go(name, edition)
        for edition in plan.load:
            if edition in self._live.get(name, {}):
                # It failed, and is tried again.
                self._retry_count[name, edition] = self._retry_count.get((name, edition), 0) + 1
                self._let_go(name, edition)
        going = [task for one, task in self._leaving.items() if _name(one) == name]
        after = going if policy is UpdatePolicy.RESOURCE else ()
        for edition in plan.load + plan.wait:
            self._load(name, wanted[edition], after=after)

    def _plan(self, name: str, wanted: tuple[Edition, ...], policy: UpdatePolicy) -> Plan:
        live = [
            Live(
                edition=edition,
                state=supervisor.state,
                retry_due=self._retry_due(name, edition, supervisor),
            )
            for edition, supervisor in self._live.get(name, {}).items()
        ]
        return plan_update(wanted, live, policy=policy)

    def _policy(
        self, name: str, wanted: tuple[Edition, ...], model: RepositoryModel
    ) -> UpdatePolicy:
        """AUTO decided by the memory that there is now."""
        policy = model.info.update_policy
        live = self._live.get(name, {})
        missing = [edition for edition in wanted if edition not in live]
        if policy is not UpdatePolicy.AUTO or not missing or not live:
            return policy
        versions = [one for one in model.versions if self._edition(one) in missing]
        fits = self._gate.fits_beside(versions, self.supervisors())
        log.info("update", model=name, fits_beside=fits)
        return UpdatePolicy.AVAILABILITY if fits else UpdatePolicy.RESOURCE

    def _retry_due(self, name: str, edition: Edition, supervisor: Supervisor) -> bool:
        if not self._retries or supervisor.failed_at_s is None:
            return False
        delay_s = min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** self._retry_count.get((name, edition), 0))
        return time.monotonic() >= supervisor.failed_at_s + delay_s

    def _load(
        self, name: str, version: VersionInfo, *, after: Iterable[asyncio.Task[None]]
    ) -> None:
        supervisor = self._make(version, self._changed)
        self._live.setdefault(name, {})[self._edition(version)] = supervisor

        async def start() -> None:
            waited_for = tuple(after)
            if waited_for:
                await asyncio.wait(waited_for)
            if not supervisor.is_needed:
                return
            others = (one for one in self.supervisors() if one is not supervisor)
            try:
                self._gate.check(version, others)
            except NotEnoughMemory as error:
                supervisor.refuse(error)
            else:
                await supervisor.start()

        task = begin("load", start(), on_failure=lambda: supervisor.refuse(_not_started(version)))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def _let_go(self, name: str, edition: Edition) -> None:
        supervisor = self._live[name].pop(edition)
        if not self._live[name]:
            del self._live[name]
        supervisor.leave()

        async def leave() -> None:
            await supervisor.drained()
            await supervisor.stop()
            del self._leaving[supervisor]
            self._changed()

        def gave_up() -> None:
            self._leaving.pop(supervisor, None)
            self._changed()

        self._leaving[supervisor] = begin("unload", leave(), on_failure=gave_up)

    def _look(self) -> None:
        """Makes `view` what requests see from now on."""
        self.view = replace(
            self.scan,
            models=tuple(self._seen(model) for model in self.scan.models),
            default_model=self._default_model,
        )
        self._defaults = default_models(self.view)

    def _seen(self, model: RepositoryModel) -> RepositoryModel:
        name = model.info.name
        by_version = self._by_version(name)
        order = [
            number
            for state in _SOONEST
            for number in sorted(by_version, reverse=True)
            if by_version[number].state is state
        ]
        ready = [number for number in order if by_version[number].state is VersionState.READY]
        hopeful = [one for one in order if by_version[one].state is not VersionState.FAILED]
        moved = self._moved.get(name, MovedLabels())
        labels = in_force(
            moved.over(model.info.version_labels),
            self._labels.get(name, {}),
            ready=ready,
            # Where all have failed, requests get the reason.
            loaded=hopeful or order,
        )
        self._labels[name] = labels
        shares = {
            label: percent
            for label, percent in moved.shares_over(model.info.traffic_percent).items()
            if labels.get(label) in ready
        }
        seen = replace(model, info=replace(model.info, version_labels=labels), serving=tuple(order))
        default = by_version.get(seen.default_version or 0)
        if default is not None and default.state is VersionState.READY:
            if self._served.get(name, default) is not default:
                default.took_over()
            self._served[name] = default
        info = seen.info if default is None else default.version.model
        return replace(seen, info=replace(info, version_labels=labels, traffic_percent=shares))

    def _by_version(self, name: str) -> dict[int, Supervisor]:
        """The edition of each loaded version that requests get: the one that serves soonest."""
        found: dict[int, Supervisor] = {}
        for edition, supervisor in self._live.get(name, {}).items():
            known = found.get(edition.version)
            if known is None or _rank(supervisor) <= _rank(known):
                found[edition.version] = supervisor
        return found

    def supervisor(self, name: str, version: int) -> Supervisor:
        """What serves a version; raises ModelUnavailable."""
        found = self._by_version(name).get(version)
        if found is None:
            raise ModelUnavailable(name, f"Version {version} of model {name} is not loaded.")
        return found

    def wanted(self, name: str, numbers: Iterable[int]) -> tuple[Supervisor, ...]:
        """The editions of versions that should serve, as far as they were begun."""
        live = self._live.get(name, {})
        model = next(one for one in self.scan.models if one.info.name == name)
        editions = [self._edition(one) for one in model.versions if one.version in numbers]
        return tuple(live[edition] for edition in editions if edition in live)

    def live(self, name: str) -> tuple[Supervisor, ...]:
        """Editions whose load has begun and whose unload has not."""
        return tuple(self._live.get(name, {}).values())

    def leaving(self, name: str, numbers: Iterable[int]) -> dict[Supervisor, asyncio.Task[None]]:
        """What is on its way out of some versions, with the tasks that end when it has left."""
        return {
            one: task
            for one, task in self._leaving.items()
            if _name(one) == name and one.version.version in numbers
        }

    def status(self, model: RepositoryModel) -> ModelStatus:
        """A model of `view`, with those of its versions that are on their way out."""
        name = model.info.name
        loaded = self._by_version(name)
        leaving = {one.version.version: one for one in self._leaving if _name(one) == name}
        shown = {**leaving, **loaded}
        refusal = self.scan.refusal(name)
        note = f"What the repository holds now is refused in part: {refusal}" if refusal else ""
        numbers = sorted({*shown, *(one.version for one in model.versions)}, reverse=True)
        labels = {
            number: tuple(sorted(k for k, at in model.info.version_labels.items() if at == number))
            for number in numbers
        }
        shares = {
            number: sum(model.info.traffic_percent.get(label, 0.0) for label in labels[number])
            for number in numbers
        }
        return ModelStatus(
            model=model.info,
            versions=tuple(
                replace(
                    one := shown[number].status() if number in shown else _unloaded(model, number),
                    labels=labels[number],
                    traffic_percent=shares[number],
                    message=one.message or note,
                )
                for number in numbers
            ),
            default_version=model.default_version,
            queued_request_count=sum(one.job_count for one in shown.values()),
            adapters=model.adapters,
            default_tasks=frozenset(task for task, at in self._defaults.items() if at == name),
        )

    def supervisors(self) -> tuple[Supervisor, ...]:
        """All that have workers."""
        live = (one for editions in self._live.values() for one in editions.values())
        return (*live, *self._leaving)

    async def stop(self) -> None:
        """Ends all workers; what still runs fails as unavailable."""
        self._is_stopping = True
        for task in (*self._leaving.values(), *self._starting):
            task.cancel()
        await asyncio.gather(*self._leaving.values(), *self._starting, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in self.supervisors()))


def _name(supervisor: Supervisor) -> str:
    return supervisor.version.model.name


def _not_started(version: VersionInfo) -> ModelUnavailable:
    name = version.model.name
    message = f"{name}/{version.version} could not be loaded; the server's log has the cause."
    return ModelUnavailable(name, message)


def _rank(supervisor: Supervisor) -> int:
    state = supervisor.state
    return _SOONEST.index(state) if state in _SOONEST else len(_SOONEST)


def _unloaded(model: RepositoryModel, number: int) -> VersionStatus:
    found = model.version(number)
    assert found is not None
    return VersionStatus(
        version=number,
        state=VersionState.UNLOADED,
        labels=found.labels,
        digest=found.digest,
        weight_bytes=found.weight_bytes,
    )
