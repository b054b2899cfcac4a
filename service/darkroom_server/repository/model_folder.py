"""What one model's folder in a repository holds: a config, numbered versions, adapters."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

from darkroom_server.domain.models import BackendKind, ModelInfo, VersionInfo
from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_checks import (
    check_against_traits,
    check_against_versions,
    check_alone,
)
from darkroom_server.model_config.config_file import (
    CONFIG_NAME,
    MAX_CONFIG_BYTES,
    ConfigFile,
    read_config,
)
from darkroom_server.model_config.config_override import ConfigOverride
from darkroom_server.model_config.denoiser_checks import check_export
from darkroom_server.model_config.model_info import combine
from darkroom_server.model_config.settings import (
    LatestVersions,
    ModelSettings,
    chosen_versions,
)
from darkroom_server.pipelines.traits import PipelineTraits, fake_traits
from darkroom_server.repository.adapters.folders import ADAPTERS_NAME, AdapterFolders
from darkroom_server.repository.folder_traits import traits_of_folder
from darkroom_server.repository.git_lfs import POINTER_PROBLEM, is_pointer
from darkroom_server.repository.manifest import checked_digests
from darkroom_server.repository.naming import (
    NO_MODEL_NAME,
    is_model_name,
)
from darkroom_server.repository.openvino_weights import ARRAYS_NAME
from darkroom_server.repository.scan import RepositoryModel
from darkroom_server.repository.unused_weights import is_weights
from darkroom_server.repository.version_files import (
    MANIFEST_NAME,
    DigestCache,
    FileEntry,
    list_files,
    version_digest,
)
from darkroom_server.requests.unsupported import refusal

_VERSION_NAME = re.compile(r"[1-9][0-9]*")
_MAX_VERSION = 2**63 - 1


class ModelFolder:
    """One model's folder, read once. Mutable: what is found wrong is added to its problems."""

    def __init__(
        self,
        root: Path,
        name: str,
        digests: DigestCache,
        adapters: AdapterFolders,
        settled_before_ns: int,
        override: ConfigOverride | None = None,
    ) -> None:
        self.name = name
        self.problems = ProblemLog(name)
        self.config: ConfigFile | None = None
        self._root = root
        self._folder = root / name
        self._digests = digests
        self._adapters = adapters
        self._settled_before_ns = settled_before_ns
        self._override = override
        #: Whether files of a version changed a moment ago.
        self.is_unfinished = False

    def read(self) -> RepositoryModel | None:
        """The model, or None with problems, or None without when the folder is not meant as one."""
        if not is_model_name(self.name):
            self.problems.error(self.name, NO_MODEL_NAME)
            return None
        if not self._stays_inside(self._folder, self.name):
            return None
        try:
            return self._read_children(sorted(self._folder.iterdir()))
        except OSError as error:
            self.problems.error(self.name, f"cannot be read: {why_unreadable(error)}")
            return None

    def _read_children(self, children: list[Path]) -> RepositoryModel | None:
        numbers = self._version_numbers(children)
        has_config = any(child.name == CONFIG_NAME for child in children)
        is_configured = has_config or self._override is not None
        self.config = self._read_config(has_config) if is_configured else None
        if is_configured and self.config is None:
            return None
        if not numbers:
            self._report_no_version(has_config=has_config)
            return None
        versions = [self._read_version(number) for number in numbers]
        model = self._assemble(numbers, [version for version in versions if version is not None])
        has_adapters = any(child.name == ADAPTERS_NAME for child in children)
        return self._with_adapters(model) if model is not None and has_adapters else model

    def _with_adapters(self, model: RepositoryModel) -> RepositoryModel:
        """The model with the adapters that fit the newest version of it."""
        if "adapters" not in model.info.parameters:
            reason = refusal("adapters", model.info)
            self.problems.error(f"{self.name}/{ADAPTERS_NAME}", f"is of no use: {reason}")
            return model
        adapters, is_unfinished = self._adapters.read(
            self._folder,
            model.versions[0],
            root=self._root,
            settled_before_ns=self._settled_before_ns,
            problems=self.problems,
        )
        self.is_unfinished |= is_unfinished
        return replace(model, adapters=adapters)

    def _version_numbers(self, children: list[Path]) -> list[int]:
        """Numbers of the version folders, highest first; a warning for what looks like one else."""
        numbers = []
        for child in children:
            is_version = _VERSION_NAME.fullmatch(child.name) is not None
            is_folder = _is_folder(child)
            shown = f"{self.name}/{child.name}"
            if child.name.startswith(".") or child.name == ADAPTERS_NAME:
                continue
            if not (is_folder or is_version):
                if is_weights(child.name):
                    self.problems.warning(shown, "is ignored: weights belong into a version")
                continue
            if not is_version:
                self.problems.warning(
                    shown, "is ignored: a version's folder is a number without leading zeros"
                )
            elif not is_folder:
                self.problems.warning(shown, "is ignored: a version is a folder")
            elif len(child.name) > len(str(_MAX_VERSION)) or int(child.name) > _MAX_VERSION:
                self.problems.warning(shown, f"is ignored: versions go up to {_MAX_VERSION}")
            else:
                numbers.append(int(child.name))
        return sorted(numbers, reverse=True)

    def _report_no_version(self, *, has_config: bool) -> None:
        if has_config:
            self.problems.error(self.name, "has no version: put the pipeline into a folder 1/")
        else:
            self.problems.warning(self.name, "is ignored: it has neither a config nor a version")

    def _read_config(self, has_config: bool) -> ConfigFile | None:
        shown = f"{self.name}/{CONFIG_NAME}"
        content = self._config_content(shown) if has_config else b""
        if content is None:
            return None
        if self._override is not None:
            content, shown = self._override.over(content), f"{shown} with the fields sent"
        config = read_config(content, shown=shown, problems=self.problems)
        if config is None:
            return None
        before = self.problems.error_count
        check_alone(config, self.problems)
        return config if self.problems.error_count == before else None

    def _config_content(self, shown: str) -> bytes | None:
        path = self._folder / CONFIG_NAME
        if not self._stays_inside(path, shown):
            return None
        if not path.is_file():
            self.problems.error(shown, "is not a file")
            return None
        try:
            with path.open("rb") as file:
                content = file.read(MAX_CONFIG_BYTES + 1)
        except OSError as error:
            self.problems.error(shown, f"cannot be read: {why_unreadable(error)}")
            return None
        if is_pointer(content):
            self.problems.error(shown, POINTER_PROBLEM)
            return None
        return content

    def _read_version(self, number: int) -> VersionInfo | None:
        """A whole version, or None with problems. The cheap checks come first, the digest last."""
        before = self.problems.error_count
        shown = f"{self.name}/{number}"
        files = list_files(
            self._folder / str(number), root=self._root, shown=shown, problems=self.problems
        )
        if not self._is_settled(files):
            self.is_unfinished = True
            self.problems.warning(shown, "is still being written; it will be scanned again")
            return None
        if self.problems.error_count > before:
            return None
        settings = self.config.settings if self.config is not None else ModelSettings()
        traits = self._traits(settings, files, shown)
        if traits is None:
            return None
        if self.config is not None:
            check_against_traits(self.config, traits, self.problems)
        if self.problems.error_count > before:
            return None
        sha256_by_name = checked_digests(files, self._digests, shown=shown, problems=self.problems)
        if sha256_by_name is None or self.problems.error_count > before:
            return None
        version = VersionInfo(
            model=combine(self.name, settings, traits),
            version=number,
            path=(self._folder / str(number)).resolve(),
            digest=version_digest(sha256_by_name),
            weight_bytes=sum(
                entry.size_bytes
                for name, entry in files.items()
                if name.endswith((".safetensors", ARRAYS_NAME))
            ),
            labels=tuple(sorted(label for label, at in settings.version_labels if at == number)),
            files=tuple(entry.stamp(name, sha256_by_name[name]) for name, entry in files.items()),
        )
        check_export(version, shown, self.problems)
        return version

    def _is_settled(self, files: dict[str, FileEntry]) -> bool:
        if MANIFEST_NAME in files:
            return True
        # A time that is still to come is of a clock that was set back since.
        return all(
            not self._settled_before_ns < entry.ctime_ns <= time.time_ns()
            for entry in files.values()
        )

    def _traits(
        self, settings: ModelSettings, files: dict[str, FileEntry], shown: str
    ) -> PipelineTraits | None:
        if settings.backend is BackendKind.FAKE:
            return fake_traits()
        return traits_of_folder(files, shown, self.problems)

    def _assemble(self, found: list[int], versions: list[VersionInfo]) -> RepositoryModel | None:
        policy = self.config.settings.version_policy if self.config else LatestVersions()
        numbers = [version.version for version in versions]
        serving = chosen_versions(policy, numbers)
        if self.config is not None:
            check_against_versions(self.config, numbers, serving, self.problems)
        if not versions:
            return None
        versions = [
            replace(version, model=_keep_labels(version.model, numbers)) for version in versions
        ]
        model = RepositoryModel(
            info=versions[0].model,
            versions=tuple(versions),
            serving=tuple(serving),
            policy=policy,
            unread=tuple(number for number in found if number not in numbers),
        )
        default = model.version(model.default_version or numbers[0])
        return replace(model, info=default.model) if default is not None else model

    def _stays_inside(self, path: Path, shown: str) -> bool:
        try:
            inside = path.resolve(strict=True).is_relative_to(self._root)
        except (OSError, RuntimeError):
            self.problems.error(shown, "is a link that leads nowhere")
            return False
        if not inside:
            self.problems.error(
                shown, "is a link that leaves the repository: copy what it points at instead"
            )
        return inside


def _keep_labels(info: ModelInfo, numbers: list[int]) -> ModelInfo:
    labels = {label: at for label, at in info.version_labels.items() if at in numbers}
    return replace(info, version_labels=labels)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        if path.is_symlink():  # to a name that cannot exist, or to what must not be read
            return False
        raise


def why_unreadable(error: OSError | RuntimeError) -> str:
    """What the system says of a file or folder that cannot be read."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is a loop of links"
