"""Figures of the code itself: lines, longest files, `Any` at seams, contracts of layers.

python -m bench.house [FOLDER]   # of this repository, or of another checkout of it
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {
    "service": "service/darkroom_server",
    "Python client": "clients/python/darkroom_client",
}


def sources(folder: Path) -> list[Path]:
    """Hand-written Python files."""
    return sorted(folder.rglob("*.py"))


def _names(node: ast.AST | None) -> Iterator[str]:
    """Names in an annotation, also in one that is written as a string; not in its metadata."""
    match node:
        case None | ast.Call():
            return
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.Constant(value=str(text)):
            yield from re.findall(r"\w+", text)
    for one in ast.iter_child_nodes(node):
        yield from _names(one)


def _annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST | None]:
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    yield from (one.annotation for one in every)
    yield from (one.annotation for one in (arguments.vararg, arguments.kwarg) if one is not None)
    yield function.returns


def any_at_seams(tree: ast.Module) -> list[str]:
    """Public functions, methods and fields whose types have an `Any`, or a name that stands for it.

    A name stands for it where the module says so: `Spec = Any`, or an alias that has one in it.
    """
    stands_for = {"Any"}
    for node in tree.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind, value=value):
                is_alias = "TypeAlias" in set(_names(kind))
                found = value if is_alias else None
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Name() | ast.Subscript() as value
            ):
                found = value
            case _:
                continue
        if stands_for & set(_names(found)):
            stands_for.add(name)
    return list(_with_any(tree, "", stands_for))


def _with_any(node: ast.AST, before: str, stands_for: set[str]) -> Iterator[str]:
    for one in ast.iter_child_nodes(node):
        match one:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                yield from _with_any(one, f"{before}{name}.", stands_for)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                is_public = not name.startswith("_") or name == "__init__"
                used = {each for kind in _annotations(one) for each in _names(kind)}
                if is_public and stands_for & used:
                    yield f"{before}{name}"
            case ast.AnnAssign(target=ast.Name(id=name), annotation=kind):
                is_alias = "TypeAlias" in set(_names(kind))
                if not name.startswith("_") and not is_alias and stands_for & set(_names(kind)):
                    yield f"{before}{name}"


def lengths(root: Path) -> Iterator[str]:
    """Lines of each package, of its median and of its longest files."""
    for name, folder in PACKAGES.items():
        counts = {
            path: len(path.read_text(encoding="utf-8").splitlines())
            for path in sources(root / folder)
        }
        longest = max(counts, key=lambda path: counts[path])
        yield (
            f"{name}: {len(counts)} files, {sum(counts.values())} lines, median "
            f"{statistics.median(counts.values()):g}, {sum(n > 380 for n in counts.values())} over "
            f"380, longest {longest.relative_to(root / folder)} ({counts[longest]})"
        )


def seams(root: Path) -> dict[str, list[str]]:
    """What has an `Any` at a seam, by file of the service; with a star what other rooms import."""
    package = root / PACKAGES["service"]
    trees = {
        path.relative_to(package): ast.parse(path.read_text(encoding="utf-8"))
        for path in sources(package)
    }
    imported = {one for path, tree in trees.items() for one in _imports_of_rooms(path, tree)}
    found = {}
    for path, tree in trees.items():
        module = ".".join(("darkroom_server", *path.with_suffix("").parts))
        if names := any_at_seams(tree):
            found[str(path)] = [
                f"{name}*" if (module, name.partition(".")[0]) in imported else name
                for name in names
            ]
    return found


def _imports_of_rooms(path: Path, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Module and name of everything that a file imports from other rooms."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.count("."):
                package, room, *_ = module.split(".")
                if package == "darkroom_server" and room != path.parts[0]:
                    yield from ((module, one.name) for one in names)


def main() -> None:
    """Prints the figures."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    print(*lengths(root), sep="\n")
    found = seams(root)
    base = found.get("backends/base.py", [])
    every = [name for names in found.values() for name in names]
    print(f"\nAny at seams: {len(every)} in {len(found)} files of the service")
    print(f"of which other rooms import: {sum(name.endswith('*') for name in every)}")
    print(f"backends/base.py: {len(base)} {', '.join(base)}")
    for path, names in found.items():
        print(f"  {path}: {', '.join(names)}")
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    print(f"\nContracts of layers: {len(contracts)}")
    for one in contracts:
        extent = ", exhaustive" if one.get("exhaustive") else ""
        print(f"  {one['name']} ({one['type']}{extent})")


if __name__ == "__main__":
    main()
