"""The docstring of a public function names the errors that it, or a private function, raises."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from darkroom_client import errors as client_errors
from darkroom_server.domain import errors as server_errors
from tests.architecture.sources import REPOSITORY, SERVICE, sources

CLIENT = REPOSITORY / "clients" / "python" / "darkroom_client"

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Errors by name, each with the names of its bases.
Names = dict[str, frozenset[str]]
#: Stands for every error where one does not see which are caught.
EVERY = "*"


def _names_of(errors: ModuleType) -> Names:
    """Each error's name, with those of its bases that are errors of the tree."""
    kinds = dict(inspect.getmembers(errors, inspect.isclass))
    return {
        name: frozenset(base.__name__ for base in kind.__mro__ if base.__name__ in kinds)
        for name, kind in kinds.items()
        if issubclass(kind, errors.DarkroomError)
    }


def _of_python() -> Names:
    """Python's own errors, without those that only say that the code itself is wrong."""
    kinds = dict(inspect.getmembers(builtins, inspect.isclass))
    return {
        name: frozenset(base.__name__ for base in kind.__mro__ if base is not object)
        for name, kind in kinds.items()
        if issubclass(kind, OSError | ValueError | TypeError | LookupError | RuntimeError)
    }


def _own_errors(root: Path) -> Names:
    """The other classes of errors that the code has, by their names alone."""
    return {
        node.name: frozenset({node.name})
        for source in sources(root)
        for node in ast.walk(source.tree())
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    }


def _functions(tree: ast.Module) -> dict[str, Function]:
    """The module's functions by name, methods as `Class.method`."""
    found: dict[str, Function] = {}
    for node in tree.body:
        if isinstance(node, Function):
            found[node.name] = node
        if isinstance(node, ast.ClassDef):
            methods = (one for one in node.body if isinstance(one, Function))
            found |= {f"{node.name}.{one.name}": one for one in methods}
    return found


def _in_body(function: Function) -> Iterator[tuple[ast.Raise | ast.Call, frozenset[str]]]:
    """What raises or calls in its body, but not in functions inside of it, with what is caught."""
    waiting: list[tuple[ast.AST, frozenset[str]]] = [(one, frozenset()) for one in function.body]
    while waiting:
        node, caught = waiting.pop()
        if isinstance(node, Function | ast.Lambda):
            continue
        if isinstance(node, ast.Try):
            here = {name for one in node.handlers if one.type for name in _names_in(one.type)}
            waiting += [(one, caught | here) for one in node.body]
            waiting += [(one, caught) for one in (*node.handlers, *node.orelse, *node.finalbody)]
            continue
        if isinstance(node, ast.Raise | ast.Call):
            yield node, caught
        waiting += [(one, caught) for one in ast.iter_child_nodes(node)]


def _names_in(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Name | ast.Attribute):
            yield ast.unparse(one).rpartition(".")[2]
        if isinstance(one, ast.Starred):  # errors of a table, which is not read
            yield EVERY


def _called(call: ast.Call, caller: str) -> str:
    """The name of a private function of the module, or of method of the caller's class."""
    own_class = caller.rpartition(".")[0]
    match call.func:
        case ast.Name(id=name) if name.startswith("_"):
            return name
        case ast.Attribute(value=ast.Name(id="self"), attr=name) if name.startswith("_"):
            return f"{own_class}.{name}"
    return ""


def _raised(
    name: str, functions: dict[str, Function], names: Names, seen: frozenset[str] = frozenset()
) -> set[str]:
    """Errors that a function raises itself or by the module's private functions."""
    if name in seen or name not in functions:
        return set()
    found: set[str] = set()
    for node, caught in _in_body(functions[name]):
        errors: set[str] = set()
        if isinstance(node, ast.Call):
            errors = _raised(_called(node, name), functions, names, seen | {name})
        elif node.exc is not None:
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            errors = {ast.unparse(made).rpartition(".")[2]}
        found |= {one for one in errors if one in names and not (names[one] | {EVERY}) & caught}
    return found


def _described(name: str, functions: dict[str, Function]) -> str:
    """A function's docstring, with those that it refers to by "as `name`"."""
    text = ast.get_docstring(functions[name]) or ""
    own_class = name.rpartition(".")[0]
    for other in re.findall(r"\b[Aa]s `(\w+)`", text):
        full = f"{own_class}.{other}" if own_class else other
        if full in functions and full != name:
            text += _described(full, functions)
    return text


def unnamed_errors(tree: ast.Module, names: Names) -> list[str]:
    """Public functions with the errors that they raise and do not name, nor a base of them."""
    functions = _functions(tree)
    return [
        f"{name}: {error}"
        for name, function in functions.items()
        if not any(part.startswith("_") for part in name.split("."))
        # A command's docstring is its help.
        and not any(".command(" in ast.unparse(one) for one in function.decorator_list)
        for error in sorted(_raised(name, functions, names))
        if not any(base in _described(name, functions) for base in names[error])
    ]


@pytest.mark.parametrize(
    ("root", "errors"),
    [
        pytest.param(SERVICE, server_errors, id="service"),
        pytest.param(CLIENT, client_errors, id="python-client"),
    ],
)
def test_public_functions_name_the_errors_that_they_raise(root: Path, errors: ModuleType) -> None:
    names = _of_python() | _own_errors(root) | _names_of(errors)
    found = [
        f"{source.path}: {one}"
        for source in sources(root)
        for one in unnamed_errors(source.tree(), names)
    ]
    assert found == []


def test_an_error_that_is_not_named_is_found() -> None:
    program = '''
class Public:
    def named(self):
        """Raises InvalidParameter."""
        raise InvalidParameter("a", "b")
    def by_base(self):
        """Raises FieldError."""
        raise errors.InvalidParameter("a", "b")
    def unnamed(self):
        """Says nothing."""
        def inner():
            raise QueueFull("x")
        if inner:
            raise InvalidParameter("a", "b") from None
        raise ValueError
    def caught(self):
        """Says nothing."""
        try:
            raise errors.QueueFull("x")
        except (QueueFull, OSError):
            pass
    def by_private(self):
        """Says nothing."""
        self._private()
    def as_another(self):
        """As `named`."""
        self._private()
    def caught_of_private(self):
        """Says nothing."""
        try:
            self._private()
        except FieldError:
            pass
    def of_python(self):
        """Says nothing."""
        raise FileNotFoundError
    def of_python_by_base(self):
        """Raises OSError."""
        raise FileNotFoundError
    def _private(self):
        raise InvalidParameter("a", "b")
'''
    names = _of_python() | _names_of(server_errors)
    assert unnamed_errors(ast.parse(program), names) == [
        "Public.unnamed: InvalidParameter",
        "Public.unnamed: ValueError",
        "Public.by_private: InvalidParameter",
        "Public.of_python: FileNotFoundError",
    ]
