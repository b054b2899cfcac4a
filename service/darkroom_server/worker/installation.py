"""What pixels depend on besides a version's files and its configuration: libraries, the device.

For fingerprints, and for the conditions under which what was measured or proved before is true.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

#: Their kernels and their pipelines' arithmetic make the pixels.
LIBRARIES = ("torch", "diffusers", "transformers")
_PROCESSORS = Path("/proc/cpuinfo")


def library_versions() -> dict[str, str]:
    """Versions of what computes pixels."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def processor_name() -> str:
    """The processor's own name: one with more instructions may take other kernels."""
    try:
        lines = _PROCESSORS.read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("model name")), platform.processor())


def named_in_fingerprints(device_name: str) -> str:
    """One word: libraries and device, as in `torch-2.13.0+…+x86_64-avx512-2-threads`."""
    libraries = [f"{name}-{version}" for name, version in library_versions().items()]
    return "+".join((*libraries, "-".join(device_name.split())))


def conditions(device_name: str) -> dict[str, str]:
    """What has to be the same for what was found out on this machine before to be true now."""
    return {
        "device": device_name,
        "processor": processor_name(),
        **library_versions(),
    }
