"""What the fork server imports leaves the GPU to the workers."""

from __future__ import annotations

import subprocess
import sys

#: Notes how torch would look for a GPU, each time it is asked to during the imports.
PROGRAM = """
import os, torch
asked = []
torch.cuda.is_available = lambda: asked.append(os.getenv("PYTORCH_NVML_BASED_CUDA_CHECK")) or False
import darkroom_server.worker.preload
print("asked:", *asked)
"""


def test_whatever_is_imported_asks_the_drivers_library_for_gpus_and_not_the_runtime() -> None:
    """A process forked after the runtime was asked can never use a GPU."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    _, *answers = done.stdout.strip().splitlines()[-1].split()
    assert answers, "diffusers asks when it is imported"
    assert set(answers) == {"1"}
