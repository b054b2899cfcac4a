"""Seeded changes of bytes: what files and messages look like that are nearly right."""

from __future__ import annotations

import random
import struct

#: What numbers and texts break on.
WORDS = (
    *(b"", b"\0", b"\xff" * 8, b"nan", b"1e999", b"-1", b"0", b"99999999999999999999"),
    *(b"\xed\xa0\x80", b"../../x", b"{" * 64, b"[" * 64, b'"', b"\\", b"\x7f\xff\xff\xff"),
    *(
        struct.pack("<Q", 1 << 62),
        struct.pack(">I", 0xFFFFFFFF),
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    ),
)


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds, or two spliced, with some changes."""
    content = bytearray(rng.choice(seeds))
    if rng.random() < 0.2:
        other = rng.choice(seeds)
        content[rng.randint(0, len(content)) :] = other[rng.randint(0, len(other)) :]
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        _change(rng, content)
    return bytes(content)


def _change(rng: random.Random, content: bytearray) -> None:
    at = rng.randint(0, len(content))
    end = min(len(content), at + rng.choice((1, 2, 4, 16, 256)))
    match rng.randrange(6):
        case 0 if content:
            content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        case 1:
            content[at:end] = rng.choice(WORDS)
        case 2:
            content[at:at] = rng.choice(WORDS)
        case 3:
            del content[at:end]
        case 4:
            content[at:at] = content[at:end]
        case _:
            content[at:end] = rng.randbytes(end - at)
