"""Writes the pages and tables of docs/ that say what the code says: `make reference`.

`settings.md` from ServerConfig and the flags of `darkroom serve`, `command-line.md` from the
commands, `pipelines.md` from what is known of diffusers' classes, `parameters.md` and the names of
`http.md` from the table of request parameters, the table of `metrics.md` from the list of metrics.
The protos have a plugin of buf.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import typer

from darkroom_server.cli.main import COMMANDS, app
from darkroom_server.config import ServerConfig
from darkroom_server.domain.jobs import Task
from darkroom_server.domain.whole_pipelines import (
    NEEDS_PACKAGE,
    UNTRIED,
    RefusalKind,
    refusal_of,
    tasks_of,
)
from darkroom_server.parameters.bounds import (
    MAX_ADAPTER_COUNT,
    MAX_ADAPTER_WEIGHT,
    MAX_NAME_LENGTH,
    MAX_PROMPT_BYTES,
    MAX_REFERENCE_COUNT,
)
from darkroom_server.parameters.parameter import WITH_IMAGE, Kind, Parameter, Support
from darkroom_server.parameters.table import PARAMETERS
from darkroom_server.pipelines.families import FAMILIES
from darkroom_server.pipelines.pipeline_calls import known_calls
from darkroom_server.telemetry.metrics import METRICS

DOCS = Path(__file__).parent
HELP_WIDTH = 96
WRITTEN = "This page is written by `make reference`."
TABLE = re.compile(r"(?<=<!-- begin: written by make reference -->\n).*?(?=<!-- end -->)", re.S)

SETTINGS_INTRO = f"""# Settings

`darkroom serve` takes each setting from the first of these that has it:

1. its flag;
2. its variable, which is `DARKROOM_` and its name in capitals, as in `DARKROOM_GRPC_PORT`; lists
   and mappings as JSON;
3. the TOML file given with `--config` or `DARKROOM_CONFIG`;
4. the default.

An unknown key in the file and an unknown variable that begins with `DARKROOM_` are errors.
[Operations](operations.md) says more about running a server. {WRITTEN}
"""
COMMANDS_INTRO = f"""# Command line

`darkroom` is one program; `make setup` puts it into `.venv/bin`. Results go to files or standard
output, everything else to standard error; exit codes are part of each command's help. {WRITTEN}
"""
PARAMETERS_INTRO = f"""# Parameters

Every field of `Generate` and `Fill`: what it takes, what holds where nothing is said, and what it
is called. `ListModels` says which of them a model honours, and its own bounds and defaults.
[Requests](requests.md) says what holds across fields, [HTTP](http.md#fields) what its bodies may
write in other ways. {WRITTEN}
"""
#: Who honours a parameter, where it is not every model of its tasks.
HONOURED_BY = {
    Support.SERVICE: "the service",
    Support.FAMILY: "models of some families",
    Support.STEPS: "models of some families, if they do not run whole",
}
TASKS = {
    WITH_IMAGE: "that begins with images or fills",
    frozenset({Task.FILL}): "that fills",
    frozenset({Task.EDIT}): "that edits",
}

PIPELINES_INTRO = f"""# Pipelines of diffusers

Every class of the installed diffusers, and what Darkroom does with a folder of it. Step by step:
requests share [single steps](batching.md). Whole: a request runs from end to end, with
[the pipeline's own code](model-repository.md#pipelines-that-run-whole-requests). What is refused,
`darkroom check-repo` refuses, and the server when it reads the repository, in the same words.

A test builds a small pipeline of each class that is served whole, as far as one can be built
without a download (marked ✓), loads it as a server does and compares its pictures with those of the
class's own code. {WRITTEN}
"""


def pages() -> dict[str, str]:
    """Every generated page, whole, by its name in docs/."""
    return {
        "settings.md": "\n".join([SETTINGS_INTRO, *_settings(), ""]),
        "command-line.md": "\n".join([COMMANDS_INTRO, *_commands()]),
        "pipelines.md": "\n".join([PIPELINES_INTRO, *_pipelines(), ""]),
        "parameters.md": "\n".join([PARAMETERS_INTRO, *_parameters(), ""]),
        "metrics.md": _with_table("metrics.md", _metrics()),
        "http.md": _with_table("http.md", _http_names()),
    }


def _with_table(name: str, lines: Iterable[str]) -> str:
    text = (DOCS / name).read_text(encoding="utf-8")
    return TABLE.sub(lambda _: "\n".join([*lines, ""]), text)


def _parameters() -> list[str]:
    head = ("field", "takes", "where nothing is said", "honoured by", "meaning")
    rows = (
        (f"`{path}`", _taken(one), one.unset, _honoured_by(one), one.meaning)
        for path, one in PARAMETERS.items()
    )
    names = (
        (f"`{path}`", _listed(one.http), _listed((one.flag,)), _listed((one.python,)))
        for path, one in PARAMETERS.items()
    )
    called = _table(("field", "over HTTP", "`darkroom generate`, `fill`", "Python"), names)
    return [*_table(head, rows), "", "## Names", "", *called]


def _taken(parameter: Parameter) -> str:
    match parameter.kind:
        case Kind.TEXT:
            return f"text, up to {MAX_PROMPT_BYTES:,} bytes"
        case Kind.NAME:
            return f"text, up to {MAX_NAME_LENGTH} characters"
        case Kind.CHOICE:
            return _listed(parameter.choices)
        case Kind.PICTURE:
            return "PNG, JPEG or WebP"
        case Kind.PICTURES:
            return f"up to {MAX_REFERENCE_COUNT} of PNG, JPEG or WebP"
        case Kind.ADAPTERS:
            most = f"{MAX_ADAPTER_WEIGHT:g}"
            return f"up to {MAX_ADAPTER_COUNT} names, each with a weight from -{most} to {most}"
    if parameter.lowest is None:
        return parameter.kind.value
    beginning = "above" if parameter.above_lowest else "from"
    bounds = f"{beginning} {parameter.lowest} to {parameter.highest}".removesuffix(".0")
    own = ", within the model's limit" if parameter.model_highest else ""
    return " ".join(filter(None, (parameter.kind.value, bounds, parameter.unit))) + own


def _honoured_by(parameter: Parameter) -> str:
    who = HONOURED_BY.get(parameter.support, "every model")
    return " ".join(filter(None, (who, TASKS.get(parameter.tasks))))


def _http_names() -> list[str]:
    rows = ((f"`{path}`", _listed(one.http)) for path, one in PARAMETERS.items() if one.http)
    return _table(("field", "names"), rows)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words if word)


def _pipelines() -> Iterator[str]:
    refused: dict[RefusalKind, list[tuple[str, ...]]] = {}
    served = []
    for name, call in known_calls().items():
        refusal = None if name in FAMILIES else refusal_of(name, call)
        if refusal is not None:
            refused.setdefault(refusal.kind, []).append((f"`{name}`", refusal.reason))
            continue
        if name in NEEDS_PACKAGE:
            missing = refused.setdefault(RefusalKind.MISSING_PACKAGE, [])
            missing.append((f"`{name}`", f"needs {NEEDS_PACKAGE[name]}"))
            continue
        tasks = FAMILIES[name].tasks if name in FAMILIES else tasks_of(name, call)
        how = "step by step" if name in FAMILIES else "whole"
        told = ", ".join(sorted(task.value for task in tasks))
        served.append((f"`{name}`", how, told, "" if name in UNTRIED else "✓"))
    yield from _table(("class", "served", "tasks", "compared"), served)
    for kind, rows in refused.items():
        yield f"\n## {kind.name.replace('_', ' ').capitalize()}\n\nWhat would help: {kind.value}.\n"
        yield from _table(("class", "why it is refused"), rows)


def _settings() -> list[str]:
    flags = dict(_flags())
    rows = []
    for name, schema in ServerConfig.model_json_schema()["properties"].items():
        flag, meaning = flags.get(name, ("", schema.get("description", "")))
        assert meaning, f"{name} has neither a flag with a help text nor a description"
        rows.append((f"`{name}`", flag, _takes(schema), _shown(schema["default"]), meaning))
    return _table(("setting", "flag", "takes", "default", "meaning"), rows)


def _flags() -> Iterator[tuple[str, tuple[str, str]]]:
    """The flag and its help by the setting that it stands for, which the help names."""
    for parameter in _command("serve").params:
        text = getattr(parameter, "help", None) or ""
        variable = re.search(r"also DARKROOM_(\w+)", text)
        if variable is not None:
            meaning = re.sub(r"\s*\[[^\]]*\]$", "", text)
            yield variable[1].lower(), (f"`{parameter.opts[0]}`", meaning)


def _takes(schema: dict[str, Any]) -> str:
    for choice in schema.get("anyOf", []):
        if choice["type"] != "null":
            return _takes(choice)
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    kinds = {"integer": "whole number", "array": "list", "object": "mapping", "string": "text"}
    kind = "path" if schema.get("format") == "path" else kinds.get(schema.get("type", ""))
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in schema
    ]
    return " ".join([kind or schema.get("type", "text"), *bounds])


def _shown(default: Any) -> str:
    if default is None:
        return "unset"
    text = default if isinstance(default, str) else json.dumps(default)
    return f"`{text.removesuffix('.0')}`"


def _commands() -> Iterator[str]:
    group = typer.main.get_command(app)
    yield from _help("darkroom", group)
    for name in COMMANDS:
        command = _command(name)
        yield from _help(f"darkroom {name}", command)
        if isinstance(command, click.Group):
            for inner, each in command.commands.items():
                yield from _help(f"darkroom {name} {inner}", each)


def _command(name: str) -> click.Command:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


def _help(title: str, command: click.Command) -> list[str]:
    context = click.Context(
        command,
        info_name=title,
        terminal_width=HELP_WIDTH,
        help_option_names=["-h", "--help"],
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return [f"## {title}", "", "```text", text, "```", ""]


def _metrics() -> list[str]:
    rows = (
        (
            f"`{each.name}`",
            each.kind.value,
            each.unit,
            ", ".join(f"`{label}`" for label in each.labels),
            each.meaning,
        )
        for each in METRICS
    )
    return _table(("name", "kind", "unit", "labels", "meaning"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines]


def main() -> None:
    """Writes the pages into docs/."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
