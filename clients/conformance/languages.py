"""The clients: how each is built, runs the cases, and draws one picture."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CLIENTS = REPOSITORY / "clients"
BUILT = REPOSITORY / "build" / "clients"


@dataclass(frozen=True, slots=True)
class Language:
    """One client. Commands are run in the repository's root.

    `cases` gets the arguments ADDRESS CASES OUT_FOLDER, `picture` gets ADDRESS PROMPT OUT_FILE.
    `tools` must be on the path for `build` to work.
    """

    name: str
    tools: tuple[str, ...]
    build: tuple[str, ...] | None
    cases: tuple[str, ...]
    picture: tuple[str, ...]

    def missing(self) -> list[str]:
        """Tools that are not installed."""
        return [tool for tool in self.tools if shutil.which(tool) is None]


def _program(name: str, tools: tuple[str, ...], *command: str) -> Language:
    """A client built by its `build.sh` whose one program has both commands."""
    build = (str(CLIENTS / name / "build.sh"), str(BUILT / name))
    return Language(name, tools, build, (*command, "conformance"), (*command, "generate"))


LANGUAGES = (
    Language(
        name="python",
        tools=(),
        build=None,
        cases=(sys.executable, str(CLIENTS / "conformance" / "python_client.py")),
        picture=(sys.executable, str(CLIENTS / "conformance" / "python_picture.py")),
    ),
    Language(
        name="typescript",
        tools=("node", "npm"),
        build=(str(CLIENTS / "typescript" / "build.sh"),),
        cases=("node", str(CLIENTS / "typescript" / "dist" / "conformance.js")),
        picture=("node", str(CLIENTS / "typescript" / "dist" / "example.js")),
    ),
    _program("go", ("go", "protoc-gen-go", "protoc-gen-go-grpc"), str(BUILT / "go" / "darkroom")),
    _program("cpp", ("g++", "protoc", "grpc_cpp_plugin"), str(BUILT / "cpp" / "darkroom")),
    _program("java", ("javac", "protoc", "grpc_java_plugin"), str(BUILT / "java" / "darkroom")),
    _program(
        "ruby",
        ("ruby", "protoc", "grpc_ruby_plugin"),
        *("ruby", "-I", str(BUILT / "ruby"), str(CLIENTS / "ruby" / "darkroom.rb")),
    ),
)
