"""`make fuzz COUNT=200000`: seeded inputs of every kind; what is unforeseen is kept and told.

Of each finding the input is written into the corpus, where it is a seed from then on. Exits with 1
where there was one, or where memory has grown.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import random
import time
import traceback
from pathlib import Path

from tests.fuzz.kinds import CORPUS, Kind, kinds
from tests.fuzz.mutations import mutated

#: What memory may grow by between the first tenth and the end.
MAX_GROWTH_BYTES = 64 << 20
TOLD_EVERY_S = 60.0


def resident_bytes() -> int:
    """Of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run(count: int, seed: int, chosen: list[Kind]) -> tuple[dict[str, int], list[str], int]:
    """How many of each kind, what was found, and how much memory has grown in bytes."""
    rng, counts, found = random.Random(seed), {one.name: 0 for one in chosen}, list[str]()
    first_bytes, told_s = 0, time.monotonic()
    weights = [one.weight for one in chosen]
    for number in range(count):
        if number == count // 10:
            first_bytes = resident_bytes()
        kind = rng.choices(chosen, weights)[0]
        content = mutated(rng, kind.seeds)
        counts[kind.name] += 1
        try:
            kind.take(content)
        except Exception:
            name = hashlib.sha256(content).hexdigest()[:16]
            found.append(f"{kind.name}/{name}: {traceback.format_exc()}")
            (CORPUS / kind.name).mkdir(parents=True, exist_ok=True)
            (CORPUS / kind.name / name).write_bytes(content)
        if time.monotonic() - told_s > TOLD_EVERY_S:
            told_s = time.monotonic()
            print(f"{number + 1} inputs, {len(found)} findings", flush=True)
    return counts, found, resident_bytes() - first_bytes


def main() -> None:
    """Runs them; a line with the counts."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("kinds", nargs="*", help="some of them; all by default")
    args = parser.parse_args()
    chosen = [one for one in kinds() if not args.kinds or one.name in args.kinds]
    counts, found, growth_bytes = run(args.count, args.seed, chosen)
    print("\n".join(found[:10]))
    print(f"{counts}: {len(found)} findings, memory +{growth_bytes / 2**20:.1f} MiB")
    raise SystemExit(1 if found or growth_bytes > MAX_GROWTH_BYTES else 0)


if __name__ == "__main__":
    main()
