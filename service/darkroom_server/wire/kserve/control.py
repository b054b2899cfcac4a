"""Loads, unloads and settings, for every edge that speaks the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Final

from darkroom_server.access.caller import current_caller
from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.domain.keys import Permission
from darkroom_server.engine.engine import Engine
from darkroom_server.telemetry.logs import log_level, set_log_level
from darkroom_server.telemetry.request_traces import ENDLESS
from darkroom_server.wire.kserve.inputs import whole
from darkroom_server.wire.model_requests import check_model_name

#: What loads and unloads take besides a name. What a model depends on is in its own folder.
_LOAD_PARAMETERS: Final = ("config",)
_UNLOAD_PARAMETERS: Final = ("unload_dependents",)

#: Whether lines of a level are written, by the setting of Triton's that says so.
_LOG_FLAGS: Final = {"log_info": "info", "log_warning": "warning", "log_error": "error"}
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_VERBOSE: Final = "log_verbose_level"
#: Settings that are reported, and cannot be changed.
_FIXED: Final[Mapping[str, str]] = {"log_file": "", "log_format": "default"}
#: Triton's settings of traces, and the fields that they are here.
_TRACE_LEVEL: Final = "trace_level"
_TRACE_COUNTS: Final = {"trace_rate": "rate", "trace_count": "count"}
#: Traces are lines of the log, each written at once.
_TRACE_FIXED: Final[Mapping[str, str]] = {"log_frequency": "0", "trace_file": ""}
_MAX_COUNT: Final = 2**31


async def load(engine: Engine, name: str, parameters: Mapping[str, str | bytes]) -> str:
    """Loads a model and waits until it serves; its own name. Raises DarkroomError."""
    check_model_name(name)
    for parameter in parameters:
        if parameter not in _LOAD_PARAMETERS:
            raise InvalidParameter(
                parameter[:64],
                "a load takes no such parameter; files come from the model repository "
                f"(known: {', '.join(_LOAD_PARAMETERS)})",
            )
    config = parameters.get("config")
    if config is not None and not isinstance(config, str):
        raise InvalidParameter("config", "is no text")
    found = name
    async with aclosing(engine.control.load(name, config=config)) as reports:
        async for report in reports:
            found = report.status.model.name
    return found


async def unload(engine: Engine, name: str, parameters: Mapping[str, object]) -> str:
    """Lets a model leave when its requests have ended; its own name. Raises DarkroomError."""
    check_model_name(name)
    for parameter in parameters:
        if parameter not in _UNLOAD_PARAMETERS:
            known = ", ".join(_UNLOAD_PARAMETERS)
            raise InvalidParameter(parameter[:64], f"an unload takes only: {known}")
    return (await engine.control.unload(name)).model.name


def change_log_settings(settings: Mapping[str, bool | int | str]) -> None:
    """Changes how much of the server's log is written; raises InvalidParameter."""
    if not settings:
        return
    current_caller().require(Permission.MANAGE)
    current = log_settings()
    for name, value in settings.items():
        if name in _FIXED:
            if value != _FIXED[name]:
                raise InvalidParameter(name, "lines go to the standard error, as --log-format says")
        elif name in _LOG_FLAGS:
            if not isinstance(value, bool):
                raise InvalidParameter(name, "is neither true nor false")
        elif name != _VERBOSE:
            raise InvalidParameter(name[:64], f"no such setting; known: {', '.join(current)}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidParameter(name, "is no whole number from 0")
    current |= settings
    lowest = next((level for flag, level in _LOG_FLAGS.items() if current[flag]), "critical")
    set_log_level("debug" if current[_VERBOSE] else lowest)


def log_settings() -> dict[str, bool | int | str]:
    """How much of the server's log is written. A level includes those above it."""
    at = _LEVELS.index(log_level())
    flags = {flag: at <= _LEVELS.index(level) for flag, level in _LOG_FLAGS.items()}
    return {**flags, _VERBOSE: int(at == 0), **_FIXED}


def change_trace_settings(
    engine: Engine, model: str, settings: Mapping[str, Sequence[str]]
) -> None:
    """Changes which requests are traced, of a model or of all; no value: as if it was never set.

    Raises InvalidParameter, ModelNotFound.
    """
    if not settings:
        return
    current_caller().require(Permission.MANAGE)
    changes: dict[str, bool | int | None] = {}
    for name, values in settings.items():
        if name == _TRACE_LEVEL:
            changes["is_on"] = _is_on(values) if values else None
        elif name in _TRACE_COUNTS:
            changes[_TRACE_COUNTS[name]] = _count(name, values) if values else None
        elif name not in _TRACE_FIXED:
            known = ", ".join((_TRACE_LEVEL, *_TRACE_COUNTS, *_TRACE_FIXED))
            raise InvalidParameter(name[:64], f"no such setting; known: {known}")
        elif values and tuple(values) != (_TRACE_FIXED[name],):
            raise InvalidParameter(name, "traces are lines of the server's log, written at once")
    own_name = engine.get_model(model).model.name if model else ""
    engine.statistics.traces.change(own_name, changes)


def trace_settings(engine: Engine, model: str) -> dict[str, tuple[str, ...]]:
    """Which requests are traced, of a model or of all; raises ModelNotFound."""
    own_name = engine.get_model(model).model.name if model else ""
    settings = engine.statistics.traces.settings(own_name)
    return {
        _TRACE_LEVEL: ("TIMESTAMPS" if settings.is_on else "OFF",),
        "trace_rate": (str(settings.rate),),
        "trace_count": (str(settings.count),),
        **{name: (value,) for name, value in _TRACE_FIXED.items()},
    }


def _is_on(levels: Sequence[str]) -> bool:
    unknown = set(levels) - {"OFF", "TIMESTAMPS"}
    if unknown or len(set(levels)) > 1:
        raise InvalidParameter(
            _TRACE_LEVEL, "is neither OFF nor TIMESTAMPS; tensors stay unwritten"
        )
    return "TIMESTAMPS" in levels


def _count(name: str, values: Sequence[str]) -> int:
    if len(values) != 1:
        raise InvalidParameter(name, f"{len(values)} values, and 1 is taken")
    count = whole(values[0], name)
    lowest = ENDLESS if name == "trace_count" else 1
    if not lowest <= count <= _MAX_COUNT:
        raise InvalidParameter(name, f"{count} is not in {lowest} to {_MAX_COUNT}")
    return count
