"""Builds what a release has and tries it: packages, a list of parts, where they come from.

    python -m setup.release build/release

The commit that is checked out is built, from a copy of its own: what is not committed is in no
package. The client's packages have the generated code inside, so that to install them asks an index
for nothing of ours; the server's depend on the client's. Nothing is written outside the folder.
"""

from __future__ import annotations

import datetime
import hashlib
import json
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

from packaging.requirements import Requirement

from setup import go_module
from setup.release_notes import WrongVersion, notes, version_of
from setup.release_trials import clean_environment, try_client, try_server

ROOT = Path(__file__).resolve().parents[1]
#: What is packed, from where; the client's comes first, for the server's needs it.
SOURCES = {"darkroom-client": "clients/python", "darkroom-server": "service"}
GENERATED = "protos/gen/python/darkroom"
_OURS = re.compile(r"^\s*\"darkroom-(proto|client)(\[connect\])?\",\n", re.M)
_BUILD = "import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])"


def checked_out(folder: Path) -> Path:
    """A copy of what is committed."""
    folder.mkdir()
    archive = subprocess.Popen(["git", "-C", str(ROOT), "archive", "HEAD"], stdout=subprocess.PIPE)
    subprocess.run(["tar", "x", "-C", str(folder)], stdin=archive.stdout, check=True)
    if archive.wait():
        sys.exit("release: nothing is checked out")
    return folder


def staged(name: str, folder: Path, checkout: Path = ROOT) -> Path:
    """A copy of a package's sources as it is released."""
    source = folder / name
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
    shutil.copytree(checkout / SOURCES[name], source, ignore=ignored)
    shutil.copy(checkout / "LICENSE", source)
    project = source / "pyproject.toml"
    text = _OURS.sub("", project.read_text())
    if name == "darkroom-client":
        shutil.copytree(checkout / GENERATED, source / "darkroom", ignore=ignored)
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


def build(name: str, folder: Path, out: Path, checkout: Path) -> None:
    """Writes the sdist of a package, then the wheel of what is in the sdist."""
    source = staged(name, folder, checkout)
    for kind, place in (("sdist", source), ("wheel", folder / f"{name}-unpacked")):
        if kind == "wheel":
            (sdist,) = out.glob(f"{name.replace('-', '_')}-*.tar.gz")
            with tarfile.open(sdist) as packed:
                packed.extractall(place, filter="data")
            (place,) = place.iterdir()
        # Times of files would make each build another.
        environment = clean_environment(SOURCE_DATE_EPOCH=_commit("%ct"))
        command = [sys.executable, "-c", _BUILD.format(kind), str(out)]
        done = subprocess.run(
            command, cwd=place, env=environment, check=False, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"release: {name}:\n{done.stdout}{done.stderr}")


def _commit(form: str) -> str:
    command = ["git", "-C", str(ROOT), "log", "-1", f"--format={form}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _tag() -> str:
    """The tag of the commit; empty without one."""
    command = ["git", "-C", str(ROOT), "tag", "--points-at", "HEAD", "v*"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return lines[0] if lines else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """A package that is installed here, and all that it asks for, by their normal names."""
    found: set[str] = set()
    left = [(name, extras)]
    seen = set()
    while left:
        one = left.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            asked = metadata.requires(one[0]) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(_normal(one[0]))
        for requirement in map(Requirement, asked):
            holds = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in (*one[1], "")
            )
            if holds:
                left.append((requirement.name, frozenset(requirement.extras)))
    return found


def parts(lines: str) -> Iterator[dict[str, str]]:
    """The packages of constraints.txt, as a bill of materials has them.

    Required is what the server asks for; the rest are its extras and what it was tested with.
    """
    required = needed("darkroom-server")
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)$", lines, re.M):
        yield {
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{_normal(name)}@{version}",
            "scope": "required" if _normal(name) in required else "optional",
        }


def parts_of_node(lock: str) -> Iterator[dict[str, str]]:
    """What the TypeScript client asks for, by its lock file."""
    for path, found in json.loads(lock)["packages"].items():
        if path and not found.get("dev"):
            name = path.removeprefix("node_modules/")
            yield {
                "type": "library",
                "name": name,
                "version": found["version"],
                "purl": f"pkg:npm/{name.replace('@', '%40')}@{found['version']}",
                "scope": "optional",
            }


def parts_of_go() -> Iterator[dict[str, str]]:
    """What the Go client asks for."""
    for name, (version, _) in (go_module.NEEDS | go_module.INDIRECT).items():
        purl = f"pkg:golang/{name}@{version}"
        yield {
            "type": "library",
            "name": name,
            "version": version,
            "purl": purl,
            "scope": "optional",
        }


def bill_of_materials(version: str) -> dict[str, Any]:
    """What server and clients ask for, and were tested with, in CycloneDX's form."""
    lock = (ROOT / "clients/typescript/package-lock.json").read_text()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, _commit('%H'))}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "name": "darkroom-server", "version": version}
        },
        "components": [
            *parts((ROOT / "constraints.txt").read_text()),
            *parts_of_node(lock),
            *parts_of_go(),
        ],
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
                "externalParameters": {"commit": _commit("%H"), "tag": _tag()},
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


def pack_typescript(checkout: Path, out: Path, folder: Path) -> None:
    """Packs the TypeScript client, and imports it in a project of its own that has no Python."""
    environment = clean_environment(PYTHON=sys.executable)
    pack = ["npm", "pack", "--silent", "--pack-destination", str(out)]
    subprocess.run(
        pack,
        cwd=checkout / "clients/typescript",
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (package,) = out.glob("*.tgz")
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "package.json").write_text('{"name": "own", "version": "1.0.0", "type": "module"}')
    install = ["npm", "install", "--silent", "--no-fund", "--no-audit", str(package)]
    subprocess.run(install, cwd=project, check=True)
    tried = "if (!(await import('darkroom-client')).Client) process.exit(1)"
    node = ["node", "--input-type=module", "-e", tried]
    subprocess.run(node, cwd=project, check=True)
    print("release: the TypeScript package imported in a project of its own")


def build_all(checkout: Path, work: Path, out: Path, version: str) -> Path | None:
    """Every package that the tools here can build; Go's, where it is one of them."""
    for name in SOURCES:
        build(name, work, out, checkout)
    check_contents(out)
    if shutil.which("npm") is not None:
        pack_typescript(checkout, out, work / "typescript")
    else:
        print("release: no npm here, and so no package for TypeScript", file=sys.stderr)
    if not go_module.can_be_packed():
        print("release: no Go here (clients/install.sh go), and so no module", file=sys.stderr)
        return None
    (work / "go").mkdir()
    return go_module.pack(checkout, work / "go", out, python=sys.executable, version=version)


def describe(out: Path, version: str, news: str) -> None:
    """Writes what goes with the packages: parts, where they come from, sums, what is new."""
    files = sorted(file for file in out.iterdir() if file.is_file())
    (out / "CHANGES.md").write_text(news)
    (out / "sbom.cdx.json").write_text(json.dumps(bill_of_materials(version), indent=1))
    (out / "provenance.json").write_text(json.dumps(provenance(files), indent=1))
    sums = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (out / "SHA256SUMS").write_text("".join(sums))


def main(out: Path) -> None:
    """Builds and tries everything into an empty folder."""
    if out.exists():
        shutil.rmtree(out)
    work = out / "work"
    work.mkdir(parents=True)
    checkout = checked_out(work / "checkout")
    try:
        version = version_of(checkout)
        news = notes(checkout, version, tag=_tag())
    except WrongVersion as error:
        sys.exit(f"release: {error}")
    module = build_all(checkout, work, out, version)
    describe(out, version, news)
    client = try_client(out, work, checkout / "constraints.txt")
    try_server(out, work, checkout / "model_repo", client)
    if module is not None:
        go_module.try_module(module, work / "go")
    shutil.rmtree(work)
    for file in sorted(out.iterdir()):
        print(f"{file.stat().st_size:>10} {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
