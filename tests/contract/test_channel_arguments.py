"""gRPC ignores a channel argument that it does not know: each name used is one of the library's."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
from grpc._cython import cygrpc

ROOT = Path(__file__).parents[2]
SUFFIXES = (".py", ".ts", ".mjs", ".go", ".java", ".rb", ".cc", ".h")
#: As arguments are written; names of gRPC's own services look like them.
_QUOTED = re.compile(r"""["'](grpc\.[a-z0-9_.]+)["']""")
_SERVICES = re.compile(r"grpc\.(health|reflection)\.v1.*")


@cache
def known() -> frozenset[str]:
    """Every text of the library's binary that could be the name of an argument."""
    binary = Path(cygrpc.__file__).read_bytes()
    return frozenset(one.decode() for one in re.findall(rb"grpc\.[a-z0-9_.]+(?=\0)", binary))


def used() -> list[tuple[str, str]]:
    """File and name of each argument in the repository."""
    command = ["git", "ls-files", *(f"*{suffix}" for suffix in SUFFIXES)]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [
        (file, name)
        for file in listed.stdout.split()
        if (ROOT / file).is_file() and file != str(Path(__file__).relative_to(ROOT))
        for name in sorted(set(_QUOTED.findall((ROOT / file).read_text(encoding="utf-8"))))
        if not _SERVICES.fullmatch(name)
    ]


@pytest.mark.parametrize(("file", "name"), used())
def test_the_library_knows_it(file: str, name: str) -> None:
    assert name in known(), f"{file} has a channel argument that gRPC ignores"


def test_the_misspelt_would_be_found() -> None:
    assert "grpc.http2.max_ping_strikes" in known()
    assert "grpc.http2.min_recv_ping_interval_without_data_ms" not in known()
    assert len(used()) > 10
