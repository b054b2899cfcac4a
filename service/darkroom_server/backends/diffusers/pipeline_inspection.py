"""What the pipeline classes of the installed diffusers take and give, read off their code.

Run as a program it writes `pipelines/pipeline_calls.json`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
from diffusers import DiffusionPipeline
from diffusers.utils import DummyObject

from darkroom_server.domain.pipeline_call import PipelineCall
from darkroom_server.domain.whole_pipelines import NEEDS_PACKAGE
from darkroom_server.kept_files import PUBLIC, replace_file

_MAY_BE_NULL = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")
_OUTPUT = re.compile(r"return \w*Output\(\s*(\w+)=")
_SAMPLE_SIZE = re.compile(r"default_sample_size\s*=\s*(\d+)\s*$", re.MULTILINE)


def pipeline_classes() -> Iterator[tuple[str, type[DiffusionPipeline]]]:
    """Every class of a whole pipeline that can be imported here, by its name."""
    for name in sorted(dir(diffusers)):
        if name.endswith("Pipeline") and not name.endswith("ModularPipeline"):
            # The library offers names of modules that it does not have any more.
            kind: Any = getattr(diffusers, name, None)
            if is_pipeline(kind) and kind is not DiffusionPipeline and "__call__" in vars(kind):
                yield name, kind


def is_pipeline(kind: Any) -> bool:
    """Whether something is a class of diffusers' pipelines."""
    return isinstance(kind, type) and issubclass(kind, DiffusionPipeline)


def missing_packages(kind: Any) -> list[str]:
    """The packages that a class lacks to be made."""
    named: list[str] = []
    if isinstance(kind, DummyObject):
        named = vars(kind).get("_backends", [])
    elif isinstance(kind, type) and kind.__name__ in NEEDS_PACKAGE:
        named = [NEEDS_PACKAGE[kind.__name__]]
    return [one for one in named if importlib.util.find_spec(one) is None]


def inspected_call(kind: type) -> PipelineCall:
    """The call of a pipeline's class; optimum's pass all on to one of diffusers."""
    made_of = getattr(kind, "auto_model_class", kind)
    parameters = inspect.signature(made_of.__call__).parameters
    # Of the module: to find where a class begins and ends takes most of a second.
    source = Path(inspect.getfile(made_of)).read_text(encoding="utf-8")
    gives = _OUTPUT.findall(source)
    sizes = _SAMPLE_SIZE.findall(source)
    return PipelineCall(
        arguments=frozenset(parameters) - {"self"},
        required=frozenset(
            name
            for name, one in parameters.items()
            if name != "self"
            and one.default is inspect.Parameter.empty
            and one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ),
        numbers={
            name: one.default
            for name, one in parameters.items()
            if type(one.default) in (int, float)
        },
        parts=_needed_parts(made_of),
        gives=gives[-1] if gives else "",
        sample_size=int(sizes[0]) if sizes else None,
    )


def _needed_parts(kind: type) -> frozenset[str]:
    """Parts without a default that may not be null either; filters of pictures always may."""
    optional = {*getattr(kind, "_optional_components", ()), *_MAY_BE_NULL}
    return frozenset(
        name
        for name, one in inspect.signature(kind).parameters.items()
        if one.default is inspect.Parameter.empty
        and one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and name not in optional
        and one.annotation not in (bool, int, float)
    )


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


if __name__ == "__main__":
    calls = {name: inspected_call(kind) for name, kind in pipeline_classes()}
    replace_file(Path(sys.argv[1]), written(calls), mode=PUBLIC)
