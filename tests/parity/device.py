"""Where parity is checked: on the processor, or on what `DARKROOM_PARITY_DEVICE` names.

`make test-gpu` runs the same tests on a GPU.
"""

from __future__ import annotations

import os
from typing import TypeVar

import pytest
import torch
from diffusers import DiffusionPipeline

DEVICE = torch.device(os.environ.get("DARKROOM_PARITY_DEVICE", "cpu"))

if DEVICE.type == "cuda":
    # Convolutions in 19 bits would differ by more than the tolerance from batch to batch.
    torch.backends.cudnn.allow_tf32 = False

#: Loading takes a GPU and half precision where there is one; the stock pipeline is loaded as it is.
loads_onto_the_processor = pytest.mark.skipif(
    DEVICE.type != "cpu", reason="compares with a pipeline on the processor"
)
#: What a scheduler draws, a stock pipeline leaves to the GPU's own generator, and ours to the seed.
draws_on_the_processor = pytest.mark.skipif(
    DEVICE.type != "cpu", reason="the stock pipeline draws other noise on a GPU"
)

Pipeline = TypeVar("Pipeline", bound=DiffusionPipeline)


def placed(pipeline: Pipeline) -> Pipeline:
    """The pipeline on the device, without progress bars."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(DEVICE)
