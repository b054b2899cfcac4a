"""Compiled code kept beside a version, so that the next start need not compile again.

What is there is code, and is run. So the folder's name depends on what only this machine knows, and
a folder that others own or may write to is not used: a repository that was copied from
elsewhere brings no code with it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import stat
from collections.abc import Mapping
from pathlib import Path

import structlog
import torch

from darkroom_server.backends.diffusers.device import best_device, toolkit_versions
from darkroom_server.kept_files import replace_file

log = structlog.get_logger(__name__)

#: In the version's folder; a name with a dot is no part of the version.
FOLDER_NAME = ".compile_cache"
_PACKAGES = ("torch", "diffusers")


def use_compile_cache(version: Path, conditions: Mapping[str, str]) -> Path | None:
    """Lets torch keep what it compiles in the version's folder; None where it cannot be used.

    `conditions` are what the code depends on besides the machine and the libraries. For the whole
    process, which has one model.
    """
    everything = {**conditions, **_machine(), **{name: _version(name) for name in _PACKAGES}}
    named = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()[:16]
    folder = version / FOLDER_NAME / named
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(folder / "conditions.json", json.dumps(everything, indent=1) + "\n")
        found = folder.stat()
    except OSError as error:
        # A repository may be read-only: then torch keeps its code where it always does.
        log.info("compiled code not kept", reason=error.strerror)
        return None
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        log.warning("compiled code not used", reason="others may write to it", folder=str(folder))
        return None
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    return folder


def _version(package: str) -> str:
    return importlib.metadata.version(package)


def _machine() -> dict[str, str]:
    device = best_device()
    return {
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "machine_id": _machine_id(),
        "gpu": "" if device.kind is None else device.name(),
        **toolkit_versions(),
        "threads": str(torch.get_num_threads()),
    }


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip() or platform.node()
    except OSError:
        return platform.node()
