"""Command line of the training: `python -m darkroom_training --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from darkroom_training import export, flux, flux_fill, ranks, scorecard, sdxl, vae
from darkroom_training.product import PRODUCTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="darkroom_training", description=__doc__)
    parser.add_argument(
        "stage",
        choices=["vae", "fold", "decoder", "sdxl", "flux", "flux-fill", "evaluate", "export"],
    )
    parser.add_argument("--folder", type=Path, default=Path("build/training"))
    parser.add_argument("--ranks", type=int, default=2, help="one-thread processes")
    parser.add_argument("--budget-s", type=float, default=900.0, help="seconds of wall time in all")
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument(
        "--base",
        type=Path,
        default=Path("model_repo/tiny-sdxl/1"),
        help="exported model whose autoencoder and CLIP parts the FLUX models share",
    )
    checks = parser.add_argument_group("evaluate and export")
    checks.add_argument("--model", choices=PRODUCTS, default="tiny-sdxl")
    checks.add_argument("--pipeline", type=Path, help="version folder, if not the committed one")
    checks.add_argument("--count", type=int, default=100, help="prompts")
    checks.add_argument("--fill-count", type=int, default=40, help="masked pictures")
    checks.add_argument("--seed", type=int, default=0)
    checks.add_argument("--held-out", action="store_true", help="only what training never saw")
    checks.add_argument("--report", type=Path, default=Path("build/training/evaluation"))
    checks.add_argument("--repository", type=Path, default=Path("model_repo"))
    checks.add_argument("--version", type=int, default=1)
    checks.add_argument("--force", action="store_true", help="export whatever the figures say")
    return parser


def main() -> None:
    """Runs one stage; each goes on where it stopped."""
    parser = _parser()
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    product = PRODUCTS[args.model]
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
        case "flux" | "flux-fill":
            ranks.launch(
                flux.train if args.stage == "flux" else flux_fill.train,
                rank_count=args.ranks,
                args=(args.folder, args.base, args.budget_s, args.lr),
            )
        case "evaluate":
            scorecard.evaluate(
                product,
                args.pipeline or args.repository / product.name / str(args.version),
                args.report / product.name,
                count=args.count,
                fill_count=args.fill_count,
                seed=args.seed,
                held_out_only=args.held_out,
            )
        case "export":
            try:
                export.export(
                    product,
                    args.folder,
                    args.repository / product.name,
                    base=args.base,
                    version=args.version,
                    count=args.count,
                    fill_count=args.fill_count,
                    seed=args.seed,
                    force=args.force,
                )
            except export.GateNotPassed as error:
                parser.exit(1, f"not exported: {error} (--force exports all the same)\n")


if __name__ == "__main__":
    main()
