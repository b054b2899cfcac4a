"""The docstring of a public function names the errors that it raises itself."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from darkroom_client import errors as client_errors
from darkroom_server.domain import errors as server_errors
from tests.architecture.sources import REPOSITORY, SERVICE, sources

CLIENT = REPOSITORY / "clients" / "python" / "darkroom_client"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _names_of(errors: ModuleType) -> dict[str, frozenset[str]]:
    """Each error's name, with those of its bases that are errors of the tree."""
    kinds = dict(inspect.getmembers(errors, inspect.isclass))
    return {
        name: frozenset(base.__name__ for base in kind.__mro__ if base.__name__ in kinds)
        for name, kind in kinds.items()
        if issubclass(kind, errors.DarkroomError)
    }


def _own_errors(root: Path) -> dict[str, frozenset[str]]:
    """The other classes of errors that the code has, by their names alone."""
    return {
        node.name: frozenset({node.name})
        for source in sources(root)
        for node in ast.walk(source.tree())
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    }


def _public_functions(node: ast.AST, before: str = "") -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
            name = f"{before}{child.name}"
            if isinstance(child, Function):
                yield name, child
            else:
                yield from _public_functions(child, f"{name}.")


def _raised(function: Function) -> Iterator[str]:
    """Names of what is raised in its body, but not in functions inside of it, nor caught there."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Function | ast.Lambda):
            continue
        if isinstance(node, ast.Try):
            caught = {name for one in node.handlers if one.type for name in _names_in(one.type)}
            tried = ast.FunctionDef(name="tried", body=node.body)
            yield from (name for name in _raised(tried) if name not in caught)
            waiting += [*node.handlers, *node.orelse, *node.finalbody]
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            yield ast.unparse(made).rpartition(".")[2]
        waiting += ast.iter_child_nodes(node)


def _names_in(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Name | ast.Attribute):
            yield ast.unparse(one).rpartition(".")[2]


def unnamed_errors(tree: ast.Module, names: dict[str, frozenset[str]]) -> list[str]:
    """Public functions with the errors that they raise and do not name, nor a base of them."""
    return [
        f"{function}: {error}"
        for function, node in _public_functions(tree)
        for error in dict.fromkeys(_raised(node))
        if error in names
        and not any(name in (ast.get_docstring(node) or "") for name in names[error])
    ]


@pytest.mark.parametrize(
    ("root", "errors"),
    [
        pytest.param(SERVICE, server_errors, id="service"),
        pytest.param(CLIENT, client_errors, id="python-client"),
    ],
)
def test_public_functions_name_the_errors_that_they_raise(root: Path, errors: ModuleType) -> None:
    names = _own_errors(root) | _names_of(errors)
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
    def _private(self):
        raise InvalidParameter("a", "b")
'''
    names = _names_of(server_errors)
    assert unnamed_errors(ast.parse(program), names) == ["Public.unnamed: InvalidParameter"]
