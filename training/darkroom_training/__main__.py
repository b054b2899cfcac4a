"""Command line of the training: `python -m darkroom_training --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkroom_training import ranks, sdxl, vae


def main() -> None:
    """Runs one stage; each goes on where it stopped."""
    parser = argparse.ArgumentParser(prog="darkroom_training", description=__doc__)
    parser.add_argument("stage", choices=["vae", "fold", "decoder", "sdxl"])
    parser.add_argument("--folder", type=Path, default=Path("build/training"))
    parser.add_argument("--ranks", type=int, default=2, help="one-thread processes")
    parser.add_argument("--budget-s", type=float, default=900.0, help="seconds of wall time in all")
    parser.add_argument("--lr", type=float, default=7e-4)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    match args.stage:
        case "vae" | "decoder":
            phase = "joint" if args.stage == "vae" else "decoder"
            ranks.launch(
                vae.train,
                rank_count=args.ranks,
                args=(args.folder, args.budget_s, phase, args.lr),
            )
        case "fold":
            vae.fold(args.folder)
        case "sdxl":
            ranks.launch(
                sdxl.train, rank_count=args.ranks, args=(args.folder, args.budget_s, args.lr)
            )


if __name__ == "__main__":
    main()
