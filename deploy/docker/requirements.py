"""What the server needs besides its own packages and torch, one a line: a layer of its own.

python requirements.py EXTRA,EXTRA > requirements.txt
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

#: Installed from the checkout, or before.
OWN = ("darkroom-", "torch==")


def requirements(pyproject: Path, extras: list[str]) -> list[str]:
    """The dependencies of the package with its extras; KeyError for one that it has not."""
    project = tomllib.loads(pyproject.read_text())["project"]
    named = list(project["dependencies"])
    for extra in extras:
        named += project["optional-dependencies"][extra]
    # What the generated code is asked for with the extra `connect` is among them.
    return [one for one in named if not one.startswith(OWN)]


if __name__ == "__main__":
    service = Path(__file__).resolve().parents[2] / "service" / "pyproject.toml"
    print(*requirements(service, [one for one in sys.argv[1].split(",") if one]), sep="\n")
