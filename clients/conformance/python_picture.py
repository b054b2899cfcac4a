"""Draws one picture by the Python client: python_picture.py ADDRESS PROMPT OUT_FILE."""

from __future__ import annotations

import sys

from darkroom_client import Client


def main() -> None:
    """Draws it with seed 7, as the examples in the other languages do."""
    address, prompt, file = sys.argv[1:]
    with Client(address) as client:
        client.generate(prompt, seed=7).images[0].save(file)


if __name__ == "__main__":
    main()
