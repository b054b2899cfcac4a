"""Keeps what was loaded and labelled on request, for the next start of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from darkroom_server.kept_files import replace_file
from darkroom_server.lifecycle.labels import MovedLabels

_MAX_BYTES = 16 << 20
_Version = Annotated[int, Field(ge=1, lt=2**63)]
_Percent = Annotated[float, Field(ge=0, le=100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """Requested loads and labels. `loads`: versions by model, none where it was unloaded."""

    loads: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    labels: Mapping[str, MovedLabels] = field(default_factory=dict)


class BadStateFile(ValueError):
    """The file holds no state; the message says why and where."""


class _Labels(BaseModel):
    model_config = ConfigDict(extra="forbid")

    versions: dict[str, _Version | None] = {}
    traffic_percent: dict[str, _Percent] = {}


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    loads: dict[str, tuple[_Version, ...]] = {}
    labels: dict[str, _Labels] = {}


class StateFile:
    """A JSON file. Blocking file I/O."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> SavedState:
        """What was written last; empty when there is no file yet. Raises OSError, BadStateFile."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return SavedState()
        try:
            state = _State.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise BadStateFile(f"{where}: {first['msg']}") from None
        return SavedState(
            loads=state.loads,
            labels={
                name: MovedLabels(versions=one.versions, traffic_percent=one.traffic_percent)
                for name, one in state.labels.items()
            },
        )

    def write(self, state: SavedState) -> None:
        """Replaces the file in one step: whatever happens, the old or the new one is there.

        Raises OSError.
        """
        content = _State(
            format=1,
            loads=dict(state.loads),
            labels={
                name: _Labels(
                    versions=dict(one.versions), traffic_percent=dict(one.traffic_percent)
                )
                for name, one in state.labels.items()
            },
        )
        replace_file(self.path, content.model_dump_json(indent=1) + "\n")

    def set_aside(self) -> Path:
        """Moves a file that cannot be read out of the way, so that it is not written over."""
        aside = self.path.with_name(self.path.name + ".broken")
        self.path.replace(aside)
        return aside
