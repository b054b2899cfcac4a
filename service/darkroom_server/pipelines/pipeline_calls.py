"""What the pipeline classes of diffusers take and give, as `pipeline_calls.json` keeps it.

Written by `make reference` from the installed diffusers, of which a test holds it to be a true
copy: the repository knows every class without importing the library.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources

from darkroom_server.domain.pipeline_call import PipelineCall

_FILE = "pipeline_calls.json"


@functools.cache
def known_calls() -> Mapping[str, PipelineCall]:
    """Every pipeline class of the diffusers that this release is made for, by name.

    Raises ValueError when the file that lists them is damaged.
    """
    text = resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return {name: _read(one) for name, one in json.loads(text).items()}


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
