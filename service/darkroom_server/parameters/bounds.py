"""Bounds of request parameters that no model's configuration leaves, and the service's defaults."""

from __future__ import annotations

from typing import Final

MAX_PROMPT_BYTES: Final = 32_768
MAX_NAME_LENGTH: Final = 256
MIN_SIZE_PX: Final = 16
MAX_SIZE_PX: Final = 8192
MAX_STEP_COUNT: Final = 500
MAX_GUIDANCE_SCALE: Final = 100.0
MAX_IMAGE_COUNT: Final = 16
#: The seed of the last image must still fit a signed 64-bit integer.
MAX_SEED: Final = 2**63 - 1 - MAX_IMAGE_COUNT
MAX_ADAPTER_COUNT: Final = 8
MAX_REFERENCE_COUNT: Final = 10
MAX_ADAPTER_WEIGHT: Final = 10.0
MIN_PREVIEW_EDGE_PX: Final = 16
MAX_PREVIEW_EDGE_PX: Final = 1024

DEFAULT_QUALITY: Final = 90
#: Image to image: far enough to follow the prompt, near enough to know the image.
DEFAULT_SOURCE_STRENGTH: Final = 0.6
