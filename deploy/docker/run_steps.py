"""Runs the steps of the Dockerfile's first stage without a container, so that they cannot rot.

    python deploy/docker/run_steps.py FOLDER [NAME=VALUE ...]

RUN and COPY happen in FOLDER, with the arguments of the file but PREFIX, and those given. With
REUSE=1 pip finds what the Python that runs this has, and installs the rest and ours alone. Steps of
the second stage need root in a container and are left out: a user is made, what was built copied.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def instructions(dockerfile: str) -> Iterator[tuple[str, str]]:
    """Keyword and the rest of each instruction, lines that go on joined, without comments."""
    lines = [line for line in dockerfile.splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, rest = line.strip().partition(" ")
            yield keyword, " ".join(rest.split())


def stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    """The instructions by stage; those before the first FROM are left out."""
    found: list[list[tuple[str, str]]] = []
    for keyword, rest in instructions(dockerfile):
        if keyword == "FROM":
            found.append([])
        if found:
            found[-1].append((keyword, rest))
    return found


def copy(rest: str, folder: Path) -> None:
    """Copies from the checkout as COPY does."""
    *sources, target = rest.split()
    for source in sources:
        into = folder / target / Path(source).name if target.endswith("/") else folder / target
        into.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source,
                into,
                dirs_exist_ok=True,
                ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"),
            )
        else:
            shutil.copy(ROOT / source, into)


def main(folder: Path, given: dict[str, str]) -> None:
    """Runs the steps; raises CalledProcessError for one that fails."""
    work = folder / "src"
    work.mkdir(parents=True)
    values = dict(os.environ)
    if given.get("REUSE"):
        # Only its packages are in reach so: what is installed there as editable is not.
        values["PYTHONPATH"] = sysconfig.get_path("purelib")
    for keyword, rest in stages((ROOT / "deploy/docker/Dockerfile").read_text())[0]:
        match keyword:
            case "ARG":
                name, _, default = rest.partition("=")
                values[name] = given.get(
                    name, str(folder / "prefix") if name == "PREFIX" else default
                )
            case "COPY":
                copy(rest, work)
            case "RUN":
                print(f"RUN {re.sub(r' +', ' ', rest)}", flush=True)
                subprocess.run(["sh", "-euc", rest], cwd=work, env=values, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), dict(one.split("=", 1) for one in sys.argv[2:]))
