"""`make bench`: starts a server on the embedded models, measures, writes JSON, prints a line."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
from pathlib import Path

from bench import overhead
from bench.serving import connected, serving

ROOT = Path(__file__).parents[1]


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Runs the idle-overhead measurement."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="tiny-sdxl")
    args = parser.parse_args()
    repository = ROOT / "model_repo"
    versions = (repository / args.model).glob("[1-9]*")
    version = max(versions, key=lambda path: int(path.name))
    with (
        serving(repository, "--worker-thread-count", str(args.threads)) as server,
        connected(server) as client,
    ):
        result = overhead.measure(client, version, threads=args.threads, pairs=args.pairs)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    result |= {"commit": _commit(), "date": str(today), "machine": platform.machine()}
    target = (
        ROOT
        / "bench"
        / "results"
        / f"{today}-{result['commit']}-overhead-{args.threads}-threads.json"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"idle overhead: {result['ratio_median']:.3f} x "
        f"(95% {result['ratio_interval_95']}, goal {result['goal']}) -> {target}"
    )


if __name__ == "__main__":
    main()
