"""Libraries report their use to nobody: what a server does is its operator's to know."""

from __future__ import annotations

import os

#: What ONNX Runtime sends to its makers once it is imported, and what hubs hear of downloads.
_SETTINGS = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def report_nothing() -> None:
    """Sets the environment so, of this process and those that it starts; call before imports.

    Values that the environment has already stay.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
