"""Packs the Go client as a module with its generated code, and builds against it elsewhere.

The module is named `darkroom`, which no index can have, for it has no host: a project of one's own
unpacks it and says where (`go mod edit -replace`). Debian's packages of what it needs are served to
the trial as a module proxy, for these are versions that there are elsewhere, too.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from setup.release_trials import clean_environment

NAME = "darkroom"
#: What Debian 12 has, by the names that the modules have elsewhere, and what is needed of each.
NEEDS = {
    "github.com/golang/protobuf": ("v1.5.2", (".",)),
    "google.golang.org/genproto": ("v0.0.0-20200413115906-b5235f65be36", ("googleapis/rpc",)),
    "google.golang.org/grpc": ("v1.33.3", (".",)),
    "google.golang.org/protobuf": ("v1.28.1", (".",)),
}
#: What those need in turn.
INDIRECT = {
    "golang.org/x/net": ("v0.7.0", (".",)),
    "golang.org/x/sys": ("v0.3.0", (".",)),
    "golang.org/x/text": ("v0.7.0", (".",)),
}
DEBIAN = Path("/usr/share/gocode/src")

_MAIN = """package main

import (
	"fmt"

	"darkroom"
	"darkroom/darkroomv1"
)

func main() {
	_, err := darkroom.Dial("127.0.0.1:1", darkroom.Options{MaxAttempts: 1})
	fmt.Println(err, (&darkroomv1.GenerateRequest{Prompt: "a red circle"}).GetPrompt())
}
"""


def can_be_packed() -> bool:
    """Whether Go, its generators and what the client needs are here (clients/install.sh go)."""
    tools = ("go", "protoc-gen-go", "protoc-gen-go-grpc")
    return all(map(shutil.which, tools)) and all((DEBIAN / name).is_dir() for name in NEEDS)


def go_mod() -> str:
    """The module's own go.mod."""
    direct = "\n".join(f"\t{name} {version}" for name, (version, _) in NEEDS.items())
    indirect = "\n".join(
        f"\t{name} {version} // indirect" for name, (version, _) in INDIRECT.items()
    )
    return f"module {NAME}\n\ngo 1.19\n\nrequire (\n{direct}\n)\n\nrequire (\n{indirect}\n)\n"


def pack(checkout: Path, work: Path, out: Path, *, python: str, version: str) -> Path:
    """Writes `darkroom-go-VERSION.zip`, which unpacks into a folder `darkroom`."""
    generated = work / "generated"
    generate = [str(checkout / "protos/generate.sh"), str(generated), "go"]
    subprocess.run(generate, env=clean_environment(PYTHON=python), check=True)
    module = work / NAME
    shutil.copytree(generated / NAME, module)
    client = checkout / "clients/go"
    for file in (*client.glob("*.go"), client / "README.md", checkout / "LICENSE"):
        shutil.copy(file, module)
    shutil.copytree(client / "cmd", module / "cmd")
    (module / "go.mod").write_text(go_mod())
    packed = out / f"darkroom-go-{version}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as into:
        for file in sorted(module.rglob("*")):
            if file.is_file():
                # Times of files would make each build another.
                into.writestr(
                    zipfile.ZipInfo(f"{NAME}/{file.relative_to(module)}"), file.read_bytes()
                )
    return packed


def _proxy(folder: Path) -> None:
    """Debian's sources in the form in which `go` asks a proxy for modules."""
    for name, (version, parts) in (NEEDS | INDIRECT).items():
        home = folder / name / "@v"
        home.mkdir(parents=True)
        (home / "list").write_text(version + "\n")
        (home / f"{version}.info").write_text(json.dumps({"Version": version}))
        described = f"module {name}\n\ngo 1.19\n"
        (home / f"{version}.mod").write_text(described)
        with zipfile.ZipFile(home / f"{version}.zip", "w") as packed:
            packed.writestr(f"{name}@{version}/go.mod", described)
            for part in parts:
                sources = (DEBIAN / name / part).rglob("*")
                for file in sorted(one for one in sources if one.suffix in (".go", ".s", ".h")):
                    inside = file.relative_to(DEBIAN / name)
                    packed.write(file, f"{name}@{version}/{inside}")


def try_module(packed: Path, work: Path) -> None:
    """Builds a program of a project of its own with the module, and the module's own tests."""
    proxy, project = work / "proxy", work / "project"
    _proxy(proxy)
    project.mkdir()
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(project / "third_party")
    (project / "main.go").write_text(_MAIN)
    environment = clean_environment(
        GOPROXY=f"file://{proxy}",
        GONOSUMDB="*",
        GOPATH=str(work / "gopath"),
        GOCACHE=str(work / "gocache"),
        # What is unpacked there would otherwise be read-only, and the folder could not be removed.
        GOFLAGS="-mod=mod -modcacherw",
    )

    def go(*arguments: str) -> str:
        command = ["go", *arguments]
        return subprocess.run(
            command, cwd=project, env=environment, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    go("mod", "init", "own.example/program")
    go("mod", "edit", f"-require={NAME}@v0.0.0", f"-replace={NAME}=./third_party/{NAME}")
    go("build", "-o", "program", ".")
    said = subprocess.run(["./program"], cwd=project, check=True, capture_output=True, text=True)
    if said.stdout.strip() != "<nil> a red circle":
        raise SystemExit(f"release: the program with Go's module said {said.stdout!r}")
    go("vet", f"{NAME}/...")
    go("test", NAME)
    found = re.findall(r"^\s(\S+) (v\S+)", (project / "go.mod").read_text(), re.M)
    print(f"release: a Go program of its own built with the module and {len(found)} others")
