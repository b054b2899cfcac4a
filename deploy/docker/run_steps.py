"""Runs the steps of the Dockerfile without a container, so that they cannot rot.

    python deploy/docker/run_steps.py FOLDER [NAME=VALUE ...]

RUN and COPY of the first stage happen in FOLDER, with the arguments of the file but PREFIX, and
those given. With REUSE=1 pip finds what the Python that runs this has, and installs the rest and
ours alone. The second stage makes a user and folders: its steps run over this machine's root, in a
layer that is thrown away, and its user then writes where it must. That needs root and mounts, and
is left out without. What was built is not copied, but stays where it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Runs each of the other arguments in a layer over the root; the first is where that is mounted.
LAYER = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
root="$1/root"
shift
for step in "$@"; do echo "RUN $step"; chroot "$root" sh -euc "$step"; done
"""


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


def in_layer(place: Path, values: dict[str, str], steps: list[str]) -> bool:
    """Runs steps over the root of this machine, which stays as it is; whether all went well."""
    place.mkdir(exist_ok=True)
    command = ["unshare", "--mount", "sh", "-euc", LAYER, "sh", str(place), *steps]
    return not subprocess.run(command, env=values, check=False).returncode


def last_stage(folder: Path, values: dict[str, str]) -> None:
    """Runs the steps of the second stage where that can be; raises SystemExit if one fails."""
    layer = folder / "layer"
    if os.geteuid() or shutil.which("unshare") is None or not in_layer(layer, values, []):
        print("the second stage is left out: it needs root and mounts", flush=True)
        return
    user, steps = "root", list[str]()
    for keyword, rest in stages((ROOT / "deploy/docker/Dockerfile").read_text())[-1]:
        match keyword:
            case "RUN":
                steps.append(rest)
            case "USER":
                user = rest
                steps.append(f"getent passwd {user}")
            case "VOLUME":
                writes = f"setpriv --reuid={user} --clear-groups test -w"
                steps += [f"{writes} {volume}" for volume in json.loads(rest)]
    if not in_layer(layer, values, steps):
        sys.exit("a step of the second stage failed")


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
    last_stage(folder, values)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), dict(one.split("=", 1) for one in sys.argv[2:]))
