"""What the driver says to every peer."""

from __future__ import annotations

import argparse
import os


def arguments() -> argparse.Namespace:
    """By flags, or as one line in the environment, where a tool of the peer starts the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-images", type=int, default=8)
    parser.add_argument("--max-delay-s", type=float, default=0.0)
    line = os.environ.get("PEER_ARGUMENTS")
    return parser.parse_args(line.split() if line else None)
