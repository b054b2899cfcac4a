"""Options that several commands have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

Command = Callable[..., None]


def with_group(name: str, make: Callable[..., Any]) -> Callable[[Command], Command]:
    """A decorator: the command has the arguments of `make` as options in place of `name`.

    The command's parameter of that name is given what `make` returns.
    """
    group = inspect.signature(make, eval_str=True).parameters

    def decorate(command: Command) -> Command:
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(command, eval_str=True).parameters.values():
            parameters += (
                [option.replace(kind=one.kind) for option in group.values()]
                if one.name == name
                else [one]
            )

        @wraps(command)
        def with_options(**given: Any) -> None:
            made = make(**{option: given.pop(option) for option in group})
            command(**{name: made}, **given)

        # What typer reads: the options, and their types as they are.
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {one.name: one.annotation for one in parameters}
        return with_options

    return decorate
