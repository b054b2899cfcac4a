"""The layers hold: the contracts of pyproject.toml, and what they cannot say."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.architecture.sources import REPOSITORY, SERVICE, Source, sources


def test_import_contracts_hold() -> None:
    lint_imports = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
    ]
    result = subprocess.run(
        [*lint_imports, "--no-cache", "--no-logo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "module", ["darkroom_server.app", "darkroom_server.cli.main", "darkroom_client"]
)
def test_importing_the_parent_side_loads_no_tensor_library(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'optimum'} & set(sys.modules)\n"
        "sys.exit(f'imports {heavy}' if heavy else 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def _imported_roots(source: Source) -> set[str]:
    roots = set()
    for node in ast.walk(source.tree()):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            roots.add(node.module.partition(".")[0])
    return roots


@pytest.mark.parametrize(
    "source",
    [*sources(SERVICE / "domain"), *sources(SERVICE / "parameters")],
    ids=lambda source: source.path.stem,
)
def test_the_domain_needs_only_the_standard_library(source: Source) -> None:
    assert _imported_roots(source) <= set(sys.stdlib_module_names) | {"darkroom_server"}
