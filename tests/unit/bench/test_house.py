from __future__ import annotations

import ast
from pathlib import Path

from bench.house import any_at_seams, seams

PROGRAM = """
Loose: TypeAlias = Callable[..., Any]
Plain: TypeAlias = Callable[..., int]
class Public:
    field: dict[str, Any]
    _own: Any
    typed: "int"
    def method(self, given: Loose) -> int: ...
    def typed_method(self, given: Plain) -> int: ...
    def _private(self, given: Any) -> None: ...
class _Private:
    field: Any
def function() -> "list[Any]": ...
def described(given: Annotated[int, option(help="Any number")]) -> None: ...
"""


def test_any_is_found_in_public_types_also_by_another_name() -> None:
    assert any_at_seams(ast.parse(PROGRAM)) == ["Public.field", "Public.method", "function"]


def test_what_other_rooms_import_is_marked(tmp_path: Path) -> None:
    package = tmp_path / "service" / "darkroom_server"
    for room in ("lower", "upper"):
        (package / room).mkdir(parents=True)
    (package / "lower" / "values.py").write_text("def used(a: Any): ...\ndef unused(a: Any): ...\n")
    (package / "upper" / "user.py").write_text("from darkroom_server.lower.values import used\n")
    assert seams(tmp_path) == {"lower/values.py": ["used*", "unused"]}
