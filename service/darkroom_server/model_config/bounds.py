"""Bounds that no model's configuration leaves, and what holds where it says nothing."""

from __future__ import annotations

from typing import Final

DEFAULT_MAX_QUEUE_SIZE: Final = 64
#: Images of a run of whole requests; rows of a step, of which the knee takes as many as pay.
MAX_BATCH_SIZE: Final = 8
MAX_ROW_COUNT: Final = 32
