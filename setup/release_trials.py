"""Tries what a release has as those do who install it: nothing of the checkout is in reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setup.release_index import index_of

#: What an environment may say about Python, Go and the server that a clean one does not have.
_SAID = ("PYTHON", "VIRTUAL_ENV", "DARKROOM_", "GO", "PIP_")

_IMPORTED = """
from darkroom_client import AsyncClient, Client
from darkroom.v1 import image_service_pb2_grpc, model_service_pb2_grpc
"""

#: One picture by each model, and where the client came from.
_DRAWN = """
import json, sys
import darkroom_client
from darkroom_client import Client
drawn = {}
with Client(sys.argv[1]) as client:
    for model in client.list_models():
        if model.name.endswith("fill"):
            mask = json.loads(sys.argv[2])
            made = client.fill(bytes(mask), bytes(mask), "a red circle", model=model.name, seed=7)
        else:
            made = client.generate("a red circle", model=model.name, seed=7)
        image = made.images[0]
        drawn[model.name] = [image.media_type, image.width_px, image.height_px, len(image.content)]
print(json.dumps({"from": darkroom_client.__file__, "drawn": drawn}))
"""


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what it says about Python, Go and the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SAID)}
    return kept | more


def new_environment(folder: Path) -> Path:
    """Its Python; without pip, which works on it from outside."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin/python"


def pip(python: Path, *arguments: str, **variables: str) -> str:
    """What pip says when it works on another environment."""
    command = [sys.executable, "-m", "pip", "--python", str(python), *arguments]
    done = subprocess.run(
        command, env=clean_environment(**variables), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"release: pip {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def try_client(out: Path, work: Path, constraints: Path) -> Path:
    """Installs wheel and sdist by themselves, from an index that has nothing of ours.

    The Python of the environment with the wheel. Raises SystemExit where it wants one of ours.
    """
    (wheel,) = out.glob("darkroom_client-*.whl")
    (sdist,) = out.glob("darkroom_client-*.tar.gz")
    needed = work / "needed"
    fetch = [sys.executable, "-m", "pip", "download", "-q", "-d", str(needed)]
    fetch += ["-c", str(constraints), str(wheel), "setuptools>=77"]
    subprocess.run(fetch, check=True, stderr=subprocess.DEVNULL)
    for own in needed.glob("darkroom*"):
        own.unlink()
    with index_of(needed) as index:
        for package in (wheel, sdist):
            python = new_environment(work / f"client-{package.suffix[1:]}")
            alone = ("install", "-q", "--no-cache-dir", "--index-url", index.url, str(package))
            pip(python, *alone, PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1")
            command = [str(python), "-I", "-W", "error", "-c", _IMPORTED]
            subprocess.run(command, check=True)
    if ours := {name for name in index.asked if name.startswith("darkroom")}:
        sys.exit(f"release: installing the client asks an index for {', '.join(sorted(ours))}")
    asked = ", ".join(sorted(index.asked))
    print(f"release: client installed from wheel and sdist; the index was asked for {asked}")
    return work / "client-whl/bin/python"


def try_server(out: Path, work: Path, models: Path, client: Path) -> None:
    """Serves models from the wheels, draws one picture of each by the client's own environment.

    What the wheels need is that of the Python that runs this, for it is gigabytes; that nothing is
    missing from what they ask for, pip says.
    """
    python = new_environment(work / "server")
    site = sysconfig.get_path("purelib", vars={"base": str(work / "server")})
    # Only its packages are in reach so: what is installed there as editable is not.
    Path(site, "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    wheels = [str(wheel) for wheel in sorted(out.glob("*.whl"))]
    pip(python, "install", "-q", "--no-index", "--no-deps", "--force-reinstall", *wheels)
    check = [sys.executable, "-m", "pip", "--python", str(python), "check"]
    said = subprocess.run(check, capture_output=True, text=True, check=False).stdout.splitlines()
    if wrong := [line for line in said if line.startswith(("darkroom-client", "darkroom-server"))]:
        sys.exit("release: " + "\n".join(wrong))
    with _serving(python.with_name("darkroom"), models, work) as address:
        mask = json.dumps(list(_grey()))
        command = [str(client), "-I", "-c", _DRAWN, address, mask]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=work)
    found = json.loads(done.stdout.splitlines()[-1])
    names = {f"models/{path.name}" for path in models.iterdir() if path.is_dir()}
    if set(found["drawn"]) != names or not found["from"].startswith(str(work)):
        sys.exit(f"release: the server from wheels drew {found}")
    for name, picture in found["drawn"].items():
        print(f"release: server from wheels, client from its wheel: {name} drew {picture}")


def _grey() -> bytes:
    """A picture to fill, which as a mask repaints all of it."""
    import io

    from PIL import Image

    content = io.BytesIO()
    Image.new("L", (256, 256), 255).save(content, "PNG")
    return content.getvalue()


@contextmanager
def _serving(darkroom: Path, models: Path, work: Path) -> Iterator[str]:
    """The gRPC address of a server that is ready."""
    home = work / "home"
    home.mkdir()
    command = [str(darkroom), "serve", "--model-repository", str(models), "--log-format", "json"]
    command += ["--grpc-port", "0", "--http-port", "0"]
    environment = clean_environment(HOME=str(home), OMP_NUM_THREADS="1")
    process = subprocess.Popen(
        command,
        cwd=home,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("event") == "ready":
                yield entry["grpc"]
                return
        sys.exit(f"release: the server from wheels ended:\n{''.join(lines[-20:])}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
