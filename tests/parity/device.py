"""Where parity is checked: on the processor, or on what `DARKROOM_PARITY_DEVICE` names.

`make test-gpu` runs the same tests on a GPU.
"""

from __future__ import annotations

import os
from typing import TypeVar

import torch
from diffusers import DiffusionPipeline

DEVICE = torch.device(os.environ.get("DARKROOM_PARITY_DEVICE", "cpu"))

if DEVICE.type == "cuda":
    # Convolutions in 19 bits would differ by more than the tolerance from batch to batch.
    torch.backends.cudnn.allow_tf32 = False

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def placed(pipeline: Pipeline) -> Pipeline:
    """The pipeline on the device, without progress bars."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(DEVICE)
