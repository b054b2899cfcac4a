"""The version of all packages, and what of the change log is new in it.

python setup/release_notes.py 0.2.0     # sets it everywhere and closes the log's unreleased part
"""

from __future__ import annotations

import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOG = "CHANGELOG.md"
UNRELEASED = "Unreleased"
#: Where the version stands: a file, and what is before it there.
PLACES = (
    ("clients/python/pyproject.toml", r'^version = "'),
    ("service/pyproject.toml", r'^version = "'),
    ("protos/gen/python/pyproject.toml", r'^version = "'),
    ("clients/typescript/package.json", r'^  "version": "'),
    ("clients/typescript/package-lock.json", r'\A\{\n  "name": "[^"]*",\n  "version": "'),
    (
        "clients/typescript/package-lock.json",
        r'^    "": \{\n      "name": "[^"]*",\n      "version": "',
    ),
    ("deploy/helm/darkroom/Chart.yaml", r"^version: "),
    ("deploy/helm/darkroom/Chart.yaml", r'^appVersion: "'),
    ("deploy/helm/values/gpu-tls.yaml", r"^image: \{tag: "),
    ("deploy/ray/rayservice.yaml", r"image: \S+/darkroom-ray:"),
    ("docs/releases.md", r"^unzip darkroom-go-"),
)
#: One that Python's packages, npm's and Helm's can all have.
_NUMBER = r"\d+\.\d+\.\d+(?:-(?:a|b|rc)\d+)?"


class WrongVersion(Exception):
    """The version of a release is not the same everywhere; the message says where."""


def _place(before: str) -> re.Pattern[str]:
    return re.compile(f"({before})({_NUMBER})", re.M)


def version_of(checkout: Path) -> str:
    """The version of every package; raises WrongVersion where two differ."""
    found = []
    for file, before in PLACES:
        matches = _place(before).findall((checkout / file).read_text())
        found += [(file, version) for _, version in matches] or [(file, "none")]
    versions = {version for _, version in found}
    if len(versions) > 1 or "none" in versions:
        raise WrongVersion(", ".join(f"{file}: {version}" for file, version in found))
    return versions.pop()


def sections(log: str) -> dict[str, str]:
    """The parts of the change log by version, newest first; what is not released is the first."""
    parts = re.split(r"^## (.+)\n", log, flags=re.M)[1:]
    return {
        head.split(" ")[0]: body.strip() for head, body in zip(parts[::2], parts[1::2], strict=True)
    }


def notes(checkout: Path, version: str, *, tag: str) -> str:
    """What is new in a release; of a commit without a tag what is not released yet.

    Raises WrongVersion for a tag that is not the version's, or that the log does not have.
    """
    found = sections((checkout / LOG).read_text())
    if not tag:
        return f"# {version}, not released\n\n{found[UNRELEASED]}\n"
    if tag != f"v{version}":
        raise WrongVersion(f"the tag is {tag} and the packages have {version}")
    if version not in found:
        raise WrongVersion(f"{LOG} has no part for {version}: make version VERSION={version}")
    return f"# {version}\n\n{found[version]}\n"


def set_version(checkout: Path, version: str, day: datetime.date) -> None:
    """Writes the version everywhere; what was not released becomes its part of the change log."""
    if re.fullmatch(_NUMBER, version) is None:
        raise WrongVersion(f"{version!r} is no version such as 1.2.3 or 1.2.3-rc1")
    log = checkout / LOG
    text = log.read_text()
    found = sections(text)
    if version in found:
        raise WrongVersion(f"{LOG} has {version} already")
    if not found[UNRELEASED]:
        raise WrongVersion(f"{LOG} has nothing that is not released")
    head = f"## {UNRELEASED}\n"
    log.write_text(text.replace(head, f"{head}\n## {version} - {day.isoformat()}\n", 1))
    for file, before in PLACES:
        path = checkout / file
        path.write_text(_place(before).sub(rf"\g<1>{version}", path.read_text()))


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        set_version(ROOT, given, datetime.datetime.now(datetime.UTC).date())
    except WrongVersion as error:
        sys.exit(f"version: {error}")
    print(
        f"version: {given}. Look at it, then: "
        f"git commit -am 'Version {given}' && git tag -a v{given} -m {given}"
    )
