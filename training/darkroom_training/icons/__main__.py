"""Command line of version 2's training: `python -m darkroom_training.icons --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from darkroom_training.export import GateNotPassed
from darkroom_training.icons import compact, exporting, scorecard
from darkroom_training.icons.concepts import CONCEPTS
from darkroom_training.icons.course import STAGES, run_all, run_stage
from darkroom_training.icons.product import PRODUCTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="darkroom_training.icons", description=__doc__)
    parser.add_argument(
        "stage", choices=["all", "icons", "compact", "resume", "evaluate", "export", *STAGES]
    )
    parser.add_argument("--folder", type=Path, default=Path("build/training-icons"))
    parser.add_argument("--ranks", type=int, default=2, help="one-thread processes")
    parser.add_argument("--device", default="cpu", help="cuda takes one rank")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="factor on every stage's budget of processor time",
    )
    checks = parser.add_argument_group("evaluate and export")
    checks.add_argument("--model", choices=PRODUCTS, default="tiny-sdxl")
    checks.add_argument("--count", type=int, default=300, help="prompts, or fills")
    checks.add_argument("--seed", type=int, default=0)
    checks.add_argument("--repository", type=Path, default=Path("model_repo"))
    checks.add_argument("--force", action="store_true", help="export whatever the figures say")
    return parser


def main() -> None:
    """Runs one stage, or all in order; each goes on where it stopped."""
    parser = _parser()
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    product = PRODUCTS[args.model]
    if args.device != "cpu":
        torch.set_default_device(args.device)
        args.ranks = 1
    match args.stage:
        case "all":
            run_all(args.folder, rank_count=args.ranks, share=args.share)
        case "icons":
            (args.folder / "icons").mkdir(exist_ok=True)
            names = sorted({concept.icon for concept in CONCEPTS.values() if concept.icon})
            (args.folder / "icons" / "wanted.txt").write_text("\n".join(names) + "\n")
        case "compact":
            compact.write(args.folder)
        case "resume":
            compact.resume(args.folder)
        case "evaluate":
            staged = args.folder / "export" / product.name / exporting.VERSION
            exporting.write_version(product, args.folder, staged)
            report_folder = args.folder / "evaluation" / product.name
            scorecard.evaluate(
                product, args.folder, staged, report_folder, count=args.count, seed=args.seed
            )
        case "export":
            try:
                exporting.export(
                    product,
                    args.folder,
                    args.repository,
                    count=args.count,
                    seed=args.seed,
                    force=args.force,
                )
            except GateNotPassed as error:
                parser.exit(1, f"not exported: {error} (--force exports all the same)\n")
        case stage:
            run_stage(stage, args.folder, rank_count=args.ranks, share=args.share)


if __name__ == "__main__":
    main()
