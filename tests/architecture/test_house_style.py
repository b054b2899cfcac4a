"""The house style, where a program can see it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.architecture.sources import REPOSITORY, SERVICE, Source, sources

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

#: Names that say nothing about what is inside.
VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

#: Everything unforeseen ends in one of these: an edge's interceptor and the worker's tick.
CATCH_ALL_FILES = {
    "rpc/interceptors.py",
    "gateway/unhandled_errors.py",
    "gateway/connect_calls.py",
    "worker/failures.py",
    # Ray says that it did not start by plain Exceptions.
    "scale_out/cluster.py",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(source: Source) -> Iterator[Function]:
    for node in ast.walk(source.tree()):
        if isinstance(node, Function):
            yield node


def _body_line_count(function: Function) -> int:
    # A command's signature is a list of its options: a declaration, however long.
    assert function.end_lineno is not None
    return function.end_lineno - function.body[0].lineno + 1


def test_no_file_is_longer_than_its_limit() -> None:
    lengths = {str(source.path): source.text.count("\n") for source in sources()}
    assert {path: n for path, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_its_limit() -> None:
    lengths = {
        f"{source.path}:{function.lineno} {function.name}": _body_line_count(function)
        for source in sources()
        for function in _functions(source)
    }
    assert {where: n for where, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}


def test_every_file_and_folder_is_named_after_what_it_holds() -> None:
    vague = [
        str(source.path)
        for source in sources()
        if VAGUE_NAMES & {*source.path.parent.parts, source.path.stem}
    ]
    assert vague == []


def _catches_everything(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = (
        {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)}
        if node.type
        else set()
    )
    return node.type is None or bool(caught & {"Exception", "BaseException"})


def test_only_the_edges_and_the_workers_attempt_catch_everything() -> None:
    catching = {
        source.path.relative_to(SERVICE.relative_to(REPOSITORY)).as_posix()
        for source in sources(SERVICE)
        if any(_catches_everything(node) for node in ast.walk(source.tree()))
    }
    assert catching <= CATCH_ALL_FILES


def _servicer_methods(source: Source) -> Iterator[Function]:
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.ClassDef) and any(
            ast.unparse(base).endswith("Servicer") for base in node.bases
        ):
            yield from (member for member in node.body if isinstance(member, Function))


def test_servicer_methods_leave_failures_to_the_interceptor() -> None:
    handling = [
        f"{source.path}:{node.lineno} {method.name}"
        for source in sources(SERVICE / "rpc")
        for method in _servicer_methods(source)
        for node in ast.walk(method)
        if isinstance(node, ast.Try) or (isinstance(node, ast.Attribute) and node.attr == "abort")
    ]
    assert handling == []


def _sleeps(source: Source) -> Iterator[int]:
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}:
            yield node.lineno


def test_the_service_writes_no_file_in_place() -> None:
    in_place = [
        f"{source.path}:{node.lineno}"
        for source in sources(SERVICE)
        if source.path != (SERVICE / "kept_files.py").relative_to(REPOSITORY)
        for node in ast.walk(source.tree())
        if isinstance(node, ast.Call) and _writes_in_place(node)
    ]
    assert in_place == []


def _writes_in_place(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in ("write_text", "write_bytes"):
        return True
    is_open = name == "open" or (isinstance(call.func, ast.Name) and call.func.id == "open")
    given = [*call.args, *(one.value for one in call.keywords)]
    modes = [one.value for one in given if isinstance(one, ast.Constant)]
    return is_open and any(isinstance(mode, str) and mode[:1] in ("w", "x") for mode in modes)


def test_unit_tests_do_not_sleep() -> None:
    sleeping = [
        f"{source.path}:{line}"
        for source in sources(REPOSITORY / "tests" / "unit")
        for line in _sleeps(source)
    ]
    assert sleeping == []
