"""Builds what a release has and tries it: packages, a list of parts, where they come from.

    python setup/release.py build/release

The client's packages have the generated code inside, so that to install them asks an index for
nothing of ours; the server's depend on the client's. Nothing is written outside the folder.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import uuid
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: What is packed, from where; the client's comes first, for the server's needs it.
SOURCES = {"darkroom-client": "clients/python", "darkroom-server": "service"}
GENERATED = "protos/gen/python/darkroom"
_OURS = re.compile(r"^\s*\"darkroom-(proto|client)(\[connect\])?\",\n", re.M)
_BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"


def staged(name: str, folder: Path) -> Path:
    """A copy of a package's sources as it is released."""
    source = folder / name
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
    shutil.copytree(ROOT / SOURCES[name], source, ignore=ignored)
    shutil.copy(ROOT / "LICENSE", source)
    project = source / "pyproject.toml"
    text = _OURS.sub("", project.read_text())
    if name == "darkroom-client":
        shutil.copytree(ROOT / GENERATED, source / "darkroom", ignore=ignored)
        text = text.replace(
            'include = ["darkroom_client*"]', 'include = ["darkroom*"]\nnamespaces = true'
        )
        text = text.replace(
            "[tool.setuptools.package-data]",
            '[tool.setuptools.package-data]\n"*" = ["*.pyi", "py.typed"]',
        )
        text = text.replace(
            "[project.optional-dependencies]",
            '[project.optional-dependencies]\nconnect = ["connectrpc>=0.13,<0.14"]',
        )
    else:
        version = tomllib.loads(text)["project"]["version"]
        text = text.replace(
            "dependencies = [\n", f'dependencies = [\n  "darkroom-client[connect]=={version}",\n', 1
        )
    project.write_text(text)
    return source


def build(name: str, folder: Path, out: Path) -> None:
    """Writes the sdist of a package, then the wheel of what is in the sdist."""
    source = staged(name, folder)
    for kind, place in (("sdist", source), ("wheel", folder / f"{name}-unpacked")):
        if kind == "wheel":
            (sdist,) = out.glob(f"{name.replace('-', '_')}-*.tar.gz")
            with tarfile.open(sdist) as packed:
                packed.extractall(place, filter="data")
            (place,) = place.iterdir()
        # Times of files would make each build another.
        environment = os.environ | {"SOURCE_DATE_EPOCH": _commit("%ct")}
        command = [sys.executable, "-c", _BUILD.format(kind), str(out)]
        subprocess.run(command, cwd=place, env=environment, check=True, stdout=subprocess.DEVNULL)


def _commit(form: str) -> str:
    command = ["git", "-C", str(ROOT), "log", "-1", f"--format={form}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def parts(lines: str) -> Iterator[dict[str, str]]:
    """The packages of constraints.txt, as a bill of materials has them."""
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", lines, re.M):
        normal = re.sub(r"[-_.]+", "-", name).lower()
        yield {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{normal}@{version}",
        }


def bill_of_materials(version: str) -> dict[str, Any]:
    """What the server was tested with, in CycloneDX's form."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, _commit('%H'))}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "darkroom-server", "version": version}
        },
        "components": list(parts((ROOT / "constraints.txt").read_text())),
    }


def provenance(files: list[Path]) -> dict[str, Any]:
    """From which commit, and with what, the files were built, in the form of in-toto and SLSA."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": file.name, "digest": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}
            for file in files
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "setup/release.py",
                "externalParameters": {"commit": _commit("%H")},
                "resolvedDependencies": [
                    {"uri": f"pkg:pypi/setuptools@{metadata.version('setuptools')}"},
                    {"uri": f"pkg:generic/python@{platform.python_version()}"},
                ],
            },
            "runDetails": {"builder": {"id": "make release"}, "metadata": {"finishedOn": now}},
        },
    }


def check_contents(out: Path) -> None:
    """Raises SystemExit for a package without what it should have."""
    (client,) = out.glob("darkroom_client-*.whl")
    (server,) = out.glob("darkroom_server-*.whl")
    wanted = {
        client: (
            "darkroom_client/client.py",
            "darkroom/v1/image_service_pb2.py",
            "darkroom_client/py.typed",
        ),
        server: ("darkroom_server/app.py", "darkroom_server/gateway/playground/index.html"),
    }
    for wheel, names in wanted.items():
        with zipfile.ZipFile(wheel) as packed:
            if missing := set(names) - set(packed.namelist()):
                sys.exit(f"release: {wheel.name} lacks {', '.join(sorted(missing))}")
            (info,) = [name for name in packed.namelist() if name.endswith("METADATA")]
            if b"darkroom-proto" in packed.read(info):
                sys.exit(f"release: {wheel.name} asks for darkroom-proto, which is on no index")


def check_client(out: Path, folder: Path) -> None:
    """Installs the client's wheel alone, in an environment of its own, and imports all of it."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    (wheel,) = out.glob("darkroom_client-*.whl")
    pip = [str(folder / "bin/pip"), "install", "-q", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(wheel)], check=True)
    tried = (
        "from darkroom_client import Client, AsyncClient\n"
        "from darkroom.v1 import image_service_pb2_grpc, model_service_pb2_grpc\n"
    )
    subprocess.run([str(folder / "bin/python"), "-I", "-W", "error", "-c", tried], check=True)


def pack_typescript(out: Path, folder: Path) -> None:
    """Packs the TypeScript client, and imports it in a project of its own that has no Python."""
    ignored = shutil.ignore_patterns("node_modules", "dist", "gen")
    shutil.copytree(ROOT / "clients/typescript", folder / "clients/typescript", ignore=ignored)
    shutil.copytree(ROOT / "protos", folder / "protos", ignore=ignored)
    shutil.copy(ROOT / "constraints.txt", folder)
    environment = os.environ | {"PYTHON": sys.executable}
    pack = ["npm", "pack", "--silent", "--pack-destination", str(out)]
    subprocess.run(pack, cwd=folder / "clients/typescript", env=environment, check=True)
    (package,) = out.glob("*.tgz")
    project = folder / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "own", "version": "1.0.0", "type": "module"}')
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", str(package)]
    subprocess.run(install, cwd=project, check=True)
    tried = "if (!(await import('darkroom-client')).Client) process.exit(1)"
    node = ["node", "--input-type=module", "-e", tried]
    subprocess.run(node, cwd=project, check=True)


def main(out: Path) -> None:
    """Builds and tries everything into an empty folder."""
    if out.exists():
        shutil.rmtree(out)
    work = out / "work"
    work.mkdir(parents=True)
    for name in SOURCES:
        build(name, work, out)
    check_contents(out)
    if shutil.which("npm") is not None:
        pack_typescript(out, work / "typescript")
    else:
        print("release: no npm here, and so no package for TypeScript", file=sys.stderr)
    files = sorted(file for file in out.iterdir() if file.is_file())
    version = tomllib.loads((ROOT / "service/pyproject.toml").read_text())["project"]["version"]
    (out / "sbom.cdx.json").write_text(json.dumps(bill_of_materials(version), indent=1))
    (out / "provenance.json").write_text(json.dumps(provenance(files), indent=1))
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (out / "SHA256SUMS").write_text("".join(sums))
    check_client(out, work / "client")
    shutil.rmtree(work)
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size:>10} {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
