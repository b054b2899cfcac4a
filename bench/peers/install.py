"""Environments of the peers: `.venv-peer-NAME` each, which see torch and diffusers of `.venv`.

`python -m bench.peers.install` makes those that are not there, and says of each that cannot be
installed here why not; the others are measured without it.
"""

from __future__ import annotations

import argparse
import site
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: What each installs; FastAPI and uvicorn are the service's own too.
PACKAGES: dict[str, tuple[str, ...]] = {
    "fastapi": ("fastapi==0.165.0", "uvicorn==0.54.0"),
    "litserve": ("litserve==0.2.19",),
    "bentoml": ("bentoml==1.4.39",),
    "ray": ("ray[serve]==2.60.0",),
    "triton": ("nvidia-pytriton==0.7.0",),
}
LIMIT_S = 900


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return ROOT / f".venv-peer-{name}" / "bin" / "python"


def is_installed(name: str) -> bool:
    """Whether its environment was completed."""
    return _stamp(name).exists()


def install(name: str) -> str:
    """Makes the environment of one; the reason where it could not be made, else empty."""
    if is_installed(name):
        return ""
    python = python_of(name)
    try:
        _run(sys.executable, "-m", "venv", str(python.parents[1]))
        own = next((python.parents[1] / "lib").glob("python3*/site-packages"))
        # After its own packages, those of this environment: torch is there once.
        shared = site.getsitepackages()[0]
        (own / "shared.pth").write_text(f"import site; site.addsitedir({shared!r})\n")
        _run(str(python), "-m", "pip", "install", "-qq", *PACKAGES[name])
    except (OSError, subprocess.SubprocessError) as error:
        return _reason(error)
    _stamp(name).write_text("\n".join(PACKAGES[name]) + "\n")
    return ""


def _stamp(name: str) -> Path:
    return python_of(name).parents[1] / ".installed"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)


def _reason(error: Exception) -> str:
    """The last line that says something."""
    told = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line for line in (told or str(error)).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def main() -> None:
    """Makes the environments that are named, all by default; a line for each."""
    parser = argparse.ArgumentParser(prog="bench.peers.install", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="peer", help=", ".join(PACKAGES))
    args = parser.parse_args()
    for name in args.names or PACKAGES:
        reason = install(name)
        print(f"{name}: {'not installed: ' + reason if reason else 'installed'}", flush=True)


if __name__ == "__main__":
    main()
