"""The flags of `darkroom serve`: one for each setting of ServerConfig, of which they are made."""

from __future__ import annotations

import inspect
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from darkroom_server.config import ServerConfig

#: Set by variable or in the file only.
_WITHOUT_FLAG = ("cors_origins", "allowed_hosts", "max_http_connections", "public_url")
#: Flags that may be repeated, with what each takes, by the setting that holds all.
_REPEATED = {"aliases": ("alias", "NAME=MODEL"), "load_models": ("load_model", "NAME")}


def _argument_of(setting: str) -> str:
    """The argument that the flag is called by: without its unit, which the help names."""
    return _REPEATED[setting][0] if setting in _REPEATED else setting.removesuffix("_s")


_SETTINGS = {
    _argument_of(name): name for name in ServerConfig.model_fields if name not in _WITHOUT_FLAG
}


def server_flags(**given: Any) -> dict[str, Any]:
    """What was given, by setting; None where a flag was not."""
    values = {_SETTINGS[name]: None if value == [] else value for name, value in given.items()}
    return values | {"aliases": _aliases(values["aliases"])}


def _aliases(given: list[str] | None) -> dict[str, str] | None:
    """NAME=MODEL pairs as a mapping; None where the flag was not given."""
    if not given:
        return None
    pairs = [one.partition("=") for one in given]
    for alias, _, model in pairs:
        if not alias or not model:
            raise typer.BadParameter("is NAME=MODEL", param_hint="--alias")
    return {alias: model for alias, _, model in pairs}


def _type_of(field: FieldInfo) -> Any:
    """What the command line reads; the settings check the rest."""
    kind = field.annotation
    if typing.get_origin(kind) is types.UnionType:
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    return kind if kind in (bool, int, float, Path) else str


def _option(setting: str, field: FieldInfo) -> Any:
    variable, flag = f"DARKROOM_{setting.upper()}", f"--{_argument_of(setting).replace('_', '-')}"
    if setting in _REPEATED:
        source, metavar = f"also {variable}, as JSON", _REPEATED[setting][1]
    else:
        default = "" if field.default is None else f"default: {field.default}; "
        source, metavar = f"{default}also {variable}", None
    # Of what is off unless asked for there is no flag that turns it off.
    names = (flag,) if field.default is not True else (f"{flag}/--no-{flag.removeprefix('--')}",)
    return typer.Option(*names, metavar=metavar, help=f"{field.description} [{source}]")


def _parameter(argument: str, setting: str) -> inspect.Parameter:
    field = ServerConfig.model_fields[setting]
    kind = list[str] if setting in _REPEATED else _type_of(field)
    option = Annotated[kind | None, _option(setting, field)]  # type: ignore[valid-type]
    return inspect.Parameter(
        argument, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option
    )


# What typer reads.
server_flags.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [_parameter(argument, setting) for argument, setting in _SETTINGS.items()]
)
