"""The file of keys, TOML or by its suffix JSON: read by the server, written by `darkroom keys`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import limits
import tomlkit
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from darkroom_server.access.files import hold_lock
from darkroom_server.domain.keys import PIXEL_STEPS_PER_CREDIT, ApiKey, Permission
from darkroom_server.kept_files import replace_file

#: Sums of pixel-steps stay exact in every reader of JSON.
MAX_CREDITS = 1e9
#: So that no key shuts out the others, nor is shut out.
MIN_WEIGHT, MAX_WEIGHT = 0.01, 100.0
_HEADER = "# Keys of Darkroom, made by `darkroom keys create`; the server reads changes by itself."


def check_rate_limit(text: str) -> str:
    """The text, if it is such as `60/minute` or `5/second; 1000/day`; raises ValueError."""
    try:
        limits.parse_many(text)
    except ValueError:
        raise ValueError(f"{text!r} is no rate such as 60/minute") from None
    return text


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,64}$")]
    name: str = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    permissions: list[Permission]
    models: list[str] = ["*"]
    rate_limit: Annotated[str, AfterValidator(check_rate_limit)] | None = None
    concurrent_requests: Annotated[int, Field(ge=1)] | None = None
    credits: Annotated[float, Field(ge=0, le=MAX_CREDITS)] | None = None
    weight: Annotated[float, Field(ge=MIN_WEIGHT, le=MAX_WEIGHT)] = 1.0
    revoked: bool = False

    def to_key(self) -> ApiKey:
        budget = None if self.credits is None else round(self.credits * PIXEL_STEPS_PER_CREDIT)
        return ApiKey(
            id=self.id,
            name=self.name,
            sha256=bytes.fromhex(self.sha256),
            permissions=frozenset(self.permissions),
            models=tuple(self.models),
            rate_limit=self.rate_limit,
            max_concurrent_requests=self.concurrent_requests,
            budget_pixel_steps=budget,
            weight=self.weight,
            is_revoked=self.revoked,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: list[_Entry] = []


class KeysFileError(ValueError):
    """A file of keys that cannot be used; the message says why, in one line."""


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file, in its order; raises KeysFileError."""
    try:
        text = path.read_text(encoding="utf-8")
        document = json.loads(text) if _is_json(path) else tomllib.loads(text)
        entries = _File.model_validate(document).keys
    except OSError as error:
        raise KeysFileError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise KeysFileError(f"{path}: {_first_problem(error)}") from None
    except (ValueError, RecursionError) as error:
        raise KeysFileError(f"{path}: {error}") from None
    ids = [entry.id for entry in entries]
    repeated = sorted({one for one in ids if ids.count(one) > 1})
    if repeated:
        raise KeysFileError(f"{path}: more than one key has the id {', '.join(repeated)}")
    return tuple(entry.to_key() for entry in entries)


def add_key(path: Path, key: ApiKey) -> None:
    """Appends a key, making the file if it is not there; raises KeysFileError, OSError."""
    with hold_lock(path, waits=True):
        document = _document(path)
        document.setdefault("keys", [] if _is_json(path) else tomlkit.aot()).append(_entry(key))
        _write(path, document)


def revoke_key(path: Path, key_id: str) -> ApiKey:
    """Marks a key as revoked; it stays in the file. Raises KeysFileError, OSError."""
    with hold_lock(path, waits=True):
        found = next((key for key in read_keys(path) if key.id == key_id), None)
        if found is None:
            raise KeysFileError(f"{path}: no key has the id {key_id}")
        document = _document(path)
        next(one for one in document["keys"] if one["id"] == key_id)["revoked"] = True
        _write(path, document)
        return found


def _entry(key: ApiKey) -> dict[str, Any]:
    values = {
        "id": key.id,
        "name": key.name,
        "sha256": key.sha256.hex(),
        "permissions": sorted(permission.value for permission in key.permissions),
        "models": list(key.models),
        "rate_limit": key.rate_limit,
        "concurrent_requests": key.max_concurrent_requests,
        "credits": (
            None
            if key.budget_pixel_steps is None
            else key.budget_pixel_steps / PIXEL_STEPS_PER_CREDIT
        ),
        "weight": None if key.weight == 1.0 else key.weight,
    }
    return {name: value for name, value in values.items() if value is not None}


def _document(path: Path) -> Any:
    """The file for editing, with its comments; empty when it is not there."""
    if not path.exists():
        return {} if _is_json(path) else tomlkit.parse(f"{_HEADER}\n\n")
    read_keys(path)  # nothing is added to what the server would not read
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if _is_json(path) else tomlkit.parse(text)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    is_json = _is_json(path)
    replace_file(
        path, json.dumps(document, indent=2) + "\n" if is_json else tomlkit.dumps(document)
    )


def _is_json(path: Path) -> bool:
    return path.suffix == ".json"


def _first_problem(error: ValidationError) -> str:
    # Without the input: a hash that was mistyped is nobody's business.
    found = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    return f"{where}: {found['msg']}"
