"""Command line of version 2's training: `python -m darkroom_training.icons --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkroom_training.icons.course import STAGES, run_all, run_stage


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="darkroom_training.icons", description=__doc__)
    parser.add_argument("stage", choices=["all", *STAGES])
    parser.add_argument("--folder", type=Path, default=Path("build/training-icons"))
    parser.add_argument("--ranks", type=int, default=2, help="one-thread processes")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="factor on every stage's budget of processor time",
    )
    return parser


def main() -> None:
    """Runs one stage, or all in order; each goes on where it stopped."""
    args = _parser().parse_args()
    if args.stage == "all":
        run_all(args.folder, rank_count=args.ranks, share=args.share)
    else:
        run_stage(args.stage, args.folder, rank_count=args.ranks, share=args.share)


if __name__ == "__main__":
    main()
