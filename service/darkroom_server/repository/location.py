"""Where a model repository is: a folder, or a URL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from darkroom_server.model_config.config_override import ConfigOverride
from darkroom_server.repository.remote_repository import RemoteLocation, RemoteRepository
from darkroom_server.repository.repository import ModelRepository
from darkroom_server.repository.scan import RepositoryScan


class Repository(Protocol):
    """What models are served from. Methods are for one thread at a time, and block."""

    def scan(self, in_use: Collection[Path] = ()) -> RepositoryScan:
        """Scans everything; folders of versions that are `in_use` stay. Never raises."""
        ...

    def use_configs(self, overrides: Mapping[str, ConfigOverride]) -> None:
        """From the next look on replaces fields of the configs of these models, and no others."""
        ...

    def close(self) -> None:
        """Ends whatever is under way."""
        ...


def open_repository(
    location: Path | RemoteLocation, aliases: Mapping[str, str], *, settle_s: float
) -> Repository:
    """The repository at a place; raises RemoteError for a URL that nothing here can follow."""
    if isinstance(location, RemoteLocation):
        return RemoteRepository(location, aliases, settle_s=settle_s)
    return ModelRepository(location, aliases, settle_s=settle_s)
