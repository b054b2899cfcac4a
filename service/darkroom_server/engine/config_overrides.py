"""Configurations sent along with loads, each in force until its model is loaded without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.model_config.config_override import FIELD, ConfigOverride
from darkroom_server.repository.location import Repository
from darkroom_server.repository.scan import RepositoryScan


class ConfigOverrides:
    """What replaces fields of the configs of a repository. Loop-bound."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._overrides: dict[str, ConfigOverride] = {}

    async def change(
        self, name: str, config: str | None, scan: Callable[[], Awaitable[RepositoryScan]]
    ) -> None:
        """Puts another one in force for a model, or none, and reads the repository with it.

        Raises InvalidParameter for one that the model cannot be served with; then all is as before.
        """
        override = None if config is None else ConfigOverride(config, name)
        before = self._overrides.get(name)
        if override is before:
            return
        self._set(name, override)
        fault = (await scan()).refusal(name)
        if override is not None and fault:
            self._set(name, before)
            await scan()
            raise InvalidParameter(FIELD, fault)

    def _set(self, name: str, override: ConfigOverride | None) -> None:
        if override is None:
            self._overrides.pop(name, None)
        else:
            self._overrides[name] = override
        self._repository.use_configs(dict(self._overrides))
