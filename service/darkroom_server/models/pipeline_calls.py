"""What the pipeline classes of diffusers take and give, as `pipeline_calls.json` keeps it.

Written by `make reference` from the installed diffusers, of which a test holds it to be a true
copy: the repository knows every class without importing the library.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

_FILE = "pipeline_calls.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCall:
    """The `__call__` of one class, and the parts that its folder cannot do without.

    `arguments` are all that it takes; `required` have no default, and `numbers` are the defaults
    that are numbers. `gives` is the field of its output, empty where its code does not say.
    `sample_size` are the latents along an edge that the class itself makes by default.
    """

    arguments: frozenset[str]
    required: frozenset[str] = frozenset()
    numbers: Mapping[str, float] = field(default_factory=dict)
    parts: frozenset[str] = frozenset()
    gives: str = ""
    sample_size: int | None = None

    def first_of(self, *names: str) -> str | None:
        """The first of some arguments that it takes."""
        return next((name for name in names if name in self.arguments), None)


@functools.cache
def known_calls() -> Mapping[str, PipelineCall]:
    """Every pipeline class of the diffusers that this release is made for, by name."""
    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return {name: _read(one) for name, one in json.loads(text).items()}


def written(calls: Mapping[str, PipelineCall]) -> str:
    """The text of the file: one class a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(_plain(calls[name]))}" for name in sorted(calls))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _plain(call: PipelineCall) -> dict[str, object]:
    return {
        "arguments": sorted(call.arguments),
        "required": sorted(call.required),
        "numbers": dict(sorted(call.numbers.items())),
        "parts": sorted(call.parts),
        "gives": call.gives,
        "sample_size": call.sample_size,
    }


def _read(one: dict[str, object]) -> PipelineCall:
    match one:
        case {
            "arguments": list(arguments),
            "required": list(required),
            "numbers": dict(numbers),
            "parts": list(parts),
            "gives": str(gives),
            "sample_size": int() | None as sample_size,
        }:
            return PipelineCall(
                arguments=frozenset(arguments),
                required=frozenset(required),
                numbers=numbers,
                parts=frozenset(parts),
                gives=gives,
                sample_size=sample_size,
            )
        case _:
            raise ValueError(f"{_FILE} has an entry of another form: {one}")
