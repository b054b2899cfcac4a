"""No HTTP dialect holds a proto message: what it takes from `wire` is of plain values.

That none imports the generated code or protobuf is a contract in pyproject.toml; this is about the
values that functions of `wire` return or take.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import typing
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
from google.protobuf.message import Message

from darkroom.v1.image_service_pb2 import GenerationEvent
from darkroom_server.domain.request_events import Accepted
from darkroom_server.wire.calls import Failure
from darkroom_server.wire.events import EventWriter
from tests.architecture.sources import SERVICE, Source, sources

#: The RPCs for browsers, whose messages are protos by definition.
RPCS = {"connect.py", "connect_calls.py", "connect_codecs.py"}
EDGES = [one for one in sources(SERVICE / "gateway") if one.path.name not in RPCS]


def _from_wire(source: Source) -> Iterator[tuple[str, Any]]:
    """What the file imports from `wire`, with its name there."""
    for node in ast.walk(source.tree()):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if not node.module.startswith("darkroom_server.wire"):
            continue
        module = importlib.import_module(node.module)
        for alias in node.names:
            if hasattr(module, alias.name):
                yield f"{node.module}.{alias.name}", getattr(module, alias.name)
            else:
                name = f"{node.module}.{alias.name}"
                yield name, importlib.import_module(name)


def _types(value: Any, name: str) -> Iterator[Any]:
    """The types in the value's public signatures and fields; of a module, in those it defines."""
    if inspect.ismodule(value):
        for inner in vars(value).values():
            is_own = getattr(inner, "__module__", None) == value.__name__
            if is_own and not inner.__name__.startswith("_"):
                yield from _types(inner, name)
    elif inspect.isclass(value):
        yield value
        yield from _parts(typing.get_type_hints(value))
        for inner_name, inner in vars(value).items():
            function = inner.fget if isinstance(inner, property) else inner
            if not inner_name.startswith("_") and isinstance(function, FunctionType):
                yield from _types(function, name)
    elif isinstance(value, FunctionType):
        yield from _parts(typing.get_type_hints(value))


def _parts(hints: dict[str, Any]) -> Iterator[Any]:
    waiting = list(hints.values())
    while waiting:
        one = waiting.pop()
        yield one
        arguments = typing.get_args(one)
        waiting.extend(
            inner for each in arguments for inner in (each if isinstance(each, list) else [each])
        )


def proto_types(value: Any, name: str = "") -> list[str]:
    return [
        one.__name__
        for one in _types(value, name)
        if inspect.isclass(one) and issubclass(one, Message)
    ]


@pytest.mark.parametrize("source", EDGES, ids=lambda source: source.path.stem)
def test_what_is_taken_from_wire_has_no_protos(source: Source) -> None:
    found = {name: protos for name, value in _from_wire(source) if (protos := proto_types(value))}
    assert found == {}


def test_some_take_something() -> None:
    assert sum(1 for source in EDGES for _ in _from_wire(source)) > 20


def test_protos_are_found() -> None:
    def several(events: list[tuple[int, GenerationEvent]]) -> None:
        del events

    metadata = importlib.import_module("darkroom_server.wire.kserve.metadata")
    assert proto_types(EventWriter) == ["GenerationEvent"]
    assert proto_types(Failure) == ["Status"]
    assert proto_types(several) == ["GenerationEvent"]
    assert proto_types(metadata) != []
    assert proto_types(Accepted) == []
