"""A model repository beyond the local disk, followed by a local copy that models are served from.

The copy only ever holds whole versions. What the store holds moves it; a store that cannot be
reached, and a version that cannot be fetched or is broken, leave what is there.
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_file import CONFIG_NAME, MAX_CONFIG_BYTES, read_config
from darkroom_server.model_config.config_override import ConfigOverride
from darkroom_server.model_config.settings import LatestVersions, VersionPolicy, chosen_versions
from darkroom_server.repository.fetching import Fetcher
from darkroom_server.repository.remote_models import RemoteModel, RemoteVersion, group
from darkroom_server.repository.remote_store import RemoteError, RemoteStore
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.repository_cache import CacheFull, RepositoryCache
from darkroom_server.repository.scan import RepositoryScan
from darkroom_server.repository.version_files import MANIFEST_NAME


@dataclass(frozen=True, slots=True)
class RemoteLocation:
    """A repository's URL, and where its local copy is kept within how many bytes."""

    url: str
    cache_folder: Path
    cache_bytes: int

    @property
    def folder(self) -> Path:
        """The copy's own folder."""
        digest = hashlib.sha256(self.url.rstrip("/").encode()).hexdigest()
        return self.cache_folder.expanduser() / f"repository-{digest[:16]}"


class _Arrival(enum.Enum):
    """How a version that should be in the copy is doing."""

    HERE = "here"
    COMING = "coming"
    FAILED = "failed"


@dataclass(slots=True)
class _Room:
    """What stays in the copy while room is made for versions, and how much they need together."""

    versions: set[str]
    files: set[str]
    reserved_bytes: int = 0


class RemoteRepository:
    """Scans a store and updates its local copy. Methods are for one thread at once, and block."""

    def __init__(
        self, location: RemoteLocation, aliases: Mapping[str, str], *, settle_s: float
    ) -> None:
        self._store = RemoteStore(location.url)
        self._cache = RepositoryCache(location.folder, location.cache_bytes)
        self._fetcher = Fetcher(self._store, self._cache)
        self._copy = ModelRepository(location.folder, aliases)
        self._settle_s = settle_s
        #: Configs that were read, by the key of the store's file.
        self._configs: dict[str, bytes] = {}
        #: Since when a version has been as it is, by what this process has seen.
        self._seen: dict[tuple[str, int], tuple[str, float]] = {}
        #: Keys of versions whose copy could not be served, with the key of the config of then.
        self._broken: set[tuple[str, str]] = set()

    def use_configs(self, overrides: Mapping[str, ConfigOverride]) -> None:
        """As of a folder."""
        self._copy.use_configs(overrides)

    def scan(self, in_use: Collection[Path] = ()) -> RepositoryScan:
        """Scans the store, updates the local copy, and returns its contents. Never raises.

        Folders of versions that are `in_use` stay in the copy. What has to be fetched comes in the
        background: `is_unfinished` says that a later scan will find more.
        """
        problems = ProblemLog("")
        try:
            if not self._cache.open():
                raise RemoteError("another server uses its cache: name another --repository-cache")
            models = group(self._store.list().values(), problems)
            kept = {path.name for path in in_use if path.parent == self._cache.versions.resolve()}
            arrivals = self._follow(models, kept)
        except (RemoteError, OSError) as error:
            problems.error(".", f"the model repository cannot be read: {_reason(error)}")
            return self._look_back(problems)
        found = self._copy.scan()
        has_broken = self._note_broken(found, models)
        known = {model.info.name for model in found.models}
        coming = {name for name, how in arrivals.items() if _Arrival.COMING in how}
        failed = any(_Arrival.FAILED in how for how in arrivals.values())
        of_models = (one for model in models.values() for one in model.problems.problems)
        return replace(
            found,
            problems=(*problems.problems, *of_models, *found.problems),
            fetching=tuple(sorted(coming - known)),
            is_unfinished=bool(coming) or failed or has_broken,
        )

    def close(self) -> None:
        """Ends what is being fetched, and leaves the copy to others. Blocking."""
        self._copy.close()
        self._fetcher.close()
        self._cache.close()

    def _look_back(self, problems: ProblemLog) -> RepositoryScan:
        """What the copy holds, while the store cannot be read."""
        if not self._cache.is_open:
            nothing = RepositoryScan(models=(), broken=(), problems=tuple(problems.problems))
            return replace(nothing, is_readable=False, is_unfinished=True)
        found = self._copy.scan()
        return replace(found, problems=(*problems.problems, *found.problems), is_unfinished=True)

    def _follow(self, models: dict[str, RemoteModel], in_use: set[str]) -> dict[str, set[_Arrival]]:
        """Moves the copy to what the store holds; how the versions of each model are doing."""
        now_s = time.monotonic()
        self._drop_gone(models)
        wanted: dict[str, list[RemoteVersion]] = {}
        for name, model in models.items():
            with _problems_in(model):
                wanted[name] = self._wanted(model, now_s)
        every = [one for versions in wanted.values() for one in versions]
        self._fetcher.forget_others({one.key for one in every})
        room = _Room(
            versions=in_use | {one.key for one in every},
            files={file.key for one in every for file in one.files.values()}
            | self._fetcher.keys_under_way(),
        )
        arrivals = {name: {_Arrival.FAILED} for name in models}
        for name, versions in wanted.items():
            with _problems_in(models[name]):
                arrivals[name] = self._follow_model(models[name], versions, room, now_s)
        return arrivals

    def _follow_model(
        self, model: RemoteModel, wanted: list[RemoteVersion], room: _Room, now_s: float
    ) -> set[_Arrival]:
        how = {self._bring(one, model, room, now_s) for one in wanted}
        if not all(self._is_settled(one, now_s) for one in model.versions.values()):
            how.add(_Arrival.COMING)
        # A config may name versions that are still on their way.
        if how <= {_Arrival.HERE}:
            self._cache.write_config(model.name, self._config_of(model))
        return how

    def _drop_gone(self, models: dict[str, RemoteModel]) -> None:
        for name in self._cache.models() - models.keys():
            self._cache.drop(name)
        for name, number in self._cache.linked():
            if number not in models[name].versions.keys() | models[name].refused:
                self._cache.unlink(name, number)
        versions = [one for model in models.values() for one in model.versions.values()]
        at = {(one.model, one.number) for one in versions}
        self._seen = {key: seen for key, seen in self._seen.items() if key in at}
        keys = {one.key for one in versions}
        self._broken = {pair for pair in self._broken if pair[0] in keys}
        configs = {_config_key(model) for model in models.values()}
        self._configs = {key: read for key, read in self._configs.items() if key in configs}

    def _wanted(self, model: RemoteModel, now_s: float) -> list[RemoteVersion]:
        """The versions that the model's policy chooses of those that could be served."""
        policy: VersionPolicy = LatestVersions()
        content = self._config_of(model)
        if content is not None:
            # What is wrong with it is reported when the copy is scanned.
            config = read_config(content, shown="", problems=ProblemLog(""))
            if config is None:
                return []
            policy = config.settings.version_policy
        linked = self._cache.linked()
        numbers = [
            number
            for number, version in sorted(model.versions.items(), reverse=True)
            if not self._is_broken(version, model)
            and ((model.name, number) in linked or self._is_settled(version, now_s))
        ]
        return [model.versions[number] for number in chosen_versions(policy, numbers)]

    def _bring(
        self, version: RemoteVersion, model: RemoteModel, room: _Room, now_s: float
    ) -> _Arrival:
        """Begins to fetch a version; reports in the model's problems why it cannot."""
        if not self._cache.has_version(version.key):
            if not self._is_settled(version, now_s):
                return _Arrival.COMING
            room.reserved_bytes += self._cache.missing_bytes(version.files.values())
            reason: str | None
            try:
                self._cache.make_room(room.reserved_bytes, versions=room.versions, files=room.files)
                reason = self._fetcher.advance(version, now_s)
            except CacheFull as error:
                reason = str(error)
            if reason:
                model.problems.error(version.shown, f"cannot be fetched: {reason}")
            if reason is not None:
                return _Arrival.FAILED if reason else _Arrival.COMING
        self._cache.link(version.model, version.number, version.key)
        return _Arrival.HERE

    def _is_settled(self, version: RemoteVersion, now_s: float) -> bool:
        """Whether its files are stable, by the store's clock or since this process reads them."""
        at = (version.model, version.number)
        if self._seen.get(at, ("", 0.0))[0] != version.key:
            self._seen[at] = (version.key, now_s)
        changed_at_s = version.changed_at_s
        return (
            MANIFEST_NAME in version.files
            or now_s - self._seen[at][1] >= self._settle_s
            or (changed_at_s is not None and time.time() - changed_at_s >= self._settle_s)
        )

    def _config_of(self, model: RemoteModel) -> bytes | None:
        """The config's content; one that is too large is cut where that can be detected."""
        if model.config is None:
            return None
        key = model.config.key
        if key not in self._configs:
            end = min(MAX_CONFIG_BYTES + 1, model.config.size_bytes)
            name = f"{model.name}/{CONFIG_NAME}"
            self._configs[key] = self._store.read(name, 0, end) if end else b""
        return self._configs[key]

    def _note_broken(self, found: RepositoryScan, models: dict[str, RemoteModel]) -> bool:
        """Remembers which versions of the copy cannot be served; whether any is new."""
        whole = {
            (model.info.name, version.version)
            for model in found.models
            for version in model.versions
        }
        broken = {
            (key, _config_key(models[name]))
            for (name, number), key in self._cache.linked().items()
            if (name, number) not in whole
        }
        news = broken - self._broken
        self._broken |= broken
        return bool(news)

    def _is_broken(self, version: RemoteVersion, model: RemoteModel) -> bool:
        return (version.key, _config_key(model)) in self._broken


@contextmanager
def _problems_in(model: RemoteModel) -> Iterator[None]:
    """What cannot be done for one model is said there, and stops no other."""
    try:
        yield
    except (RemoteError, OSError) as error:
        model.problems.error(model.name, f"cannot be followed: {_reason(error)}")


def _config_key(model: RemoteModel) -> str:
    return model.config.key if model.config is not None else ""


def _reason(error: RemoteError | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
