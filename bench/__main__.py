"""`make bench`: measures the goals tier by tier, prints one table, keeps the figures as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from bench.goals import Effort, measure_virtual
from bench.measured import Measured
from bench.results_table import commit_now, figure, keep, show
from bench.virtual import IMAGINED, measured_devices


def main() -> None:
    """Runs the tiers asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--tier", choices=("v", "c"), help="one tier alone; both by default")
    parser.add_argument("--quick", action="store_true", help="fewer seeds, coarser tuning")
    parser.add_argument("--goal", action="append", help="of tier V, such as G5: these alone")
    parser.add_argument("--threads", type=int, default=1, help="of the worker and the baselines")
    parser.add_argument("--model", default="tiny-sdxl")
    parser.add_argument(
        "--devices",
        type=Path,
        help="tier V on a GPU's step costs, as `bench.gpu costs` kept them",
    )
    args = parser.parse_args()
    commit = commit_now()  # before: files may change while it runs
    tiers = (args.tier or "vc") + ("g" if args.devices else "")
    measured: list[Measured] = []
    for one in _figures(args):
        print(f"{one.goal} {one.metric}: {figure(one)}", flush=True)
        measured.append(one)
        # An hour's work is not lost with its end.
        kept = keep(
            measured,
            tiers=tiers,
            quick=args.quick,
            commit=commit,
            is_partial=bool(args.goal),
        )
    show(measured)
    print(f"-> {kept}")


def _figures(args: argparse.Namespace) -> Iterator[Measured]:
    if args.tier in (None, "v"):
        effort = Effort.quick() if args.quick else Effort()
        devices = measured_devices(args.devices) if args.devices else IMAGINED
        yield from measure_virtual(
            effort, devices, with_other_workloads=not args.quick, goals=args.goal or ()
        )
    if args.tier in (None, "c"):
        # Imported here: tier V needs no torch.
        from bench.cores import measure_cores

        yield from measure_cores(args.model, thread_count=args.threads, quick=args.quick)


if __name__ == "__main__":
    main()
