"""An evaluation of a pipeline folder: measures, prints, writes figures and contact sheets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from darkroom_training.gallery import Exhibit, write_sheet
from darkroom_training.icons import classifier, sheets
from darkroom_training.icons.measurement import (
    Result,
    figures,
    fill_figures,
    judge_true_scenes,
    measure,
    measure_fill,
    sample_fills,
    sample_trials,
)
from darkroom_training.icons.product import Product
from darkroom_training.icons.scenes import SIZE_PX, Pixels
from darkroom_training.icons.stamps import StampBook
from darkroom_training.measurement import Figures, share
from darkroom_training.scorecard import manifest_sha256

COUNTED = ("things", "count", "background", "all")
#: True scenes that the judge itself is judged on.
TRUE_SCENES = 500
#: Pictures on the sheet of a model's card.
SHEET_COUNT = 48


def evaluate(
    product: Product,
    folder: Path,
    pipeline_folder: Path,
    report_folder: Path,
    *,
    count: int,
    seed: int,
) -> Figures:
    """Measures a product's folder with `count` prompts or fills; returns the figures it writes."""
    console, book, judge = Console(), StampBook(folder / "icons"), classifier.load(folder)
    pipeline = DiffusionPipeline.from_pretrained(
        pipeline_folder, torch_dtype=torch.float32, local_files_only=True
    )
    report: Figures = {
        "manifest_sha256": manifest_sha256(pipeline_folder),
        "settings": {
            "size_px": SIZE_PX,
            "step_count": product.settings.step_count,
            "guidance_scale": product.settings.guidance_scale,
            "seed": seed,
        },
    }
    with Progress(console=console) as progress:
        task = progress.add_task("pictures", total=count)
        if product.fills:
            fills = sample_fills(count, seed, book)
            results = measure_fill(
                pipeline, fills, judge, lambda: progress.advance(task), settings=product.settings
            )
            report["fill"] = fill_figures(results)
        else:
            trials = sample_trials(count, seed)
            results = measure(
                pipeline, trials, judge, lambda: progress.advance(task), settings=product.settings
            )
            report["generate"] = figures(results)
        report["true scenes"] = judge_true_scenes(judge, TRUE_SCENES, book)
    report_folder.mkdir(parents=True, exist_ok=True)
    (report_folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    _write_pictures(report_folder, results)
    chosen = () if product.fills else sheets.drawn(pipeline, product.settings)
    write_sample(report_folder / "sample.jpg", chosen, results)
    print_report(console, report, product.faults(report))
    return report


def write_sample(path: Path, chosen: Iterable[Pixels], results: Sequence[Result]) -> None:
    """The sheet of a model's card: the prompts of `sheets` as drawn, then the first of a sample."""
    pairs = zip(chosen, sheets.PROMPTS, strict=False)
    exhibits = [Exhibit(picture, prompt, None) for picture, prompt in pairs]
    write_sheet(path, [*exhibits, *_exhibits(results)][:SHEET_COUNT])


def _exhibits(results: Sequence[Result]) -> list[Exhibit]:
    return [Exhibit(r.picture, r.prompt, r.verdict.fault) for r in results]


def _write_pictures(folder: Path, results: Sequence[Result]) -> None:
    exhibits = _exhibits(results)
    write_sheet(folder / "everything.png", exhibits[:96])
    write_sheet(folder / "failures.png", [exhibit for exhibit in exhibits if exhibit.fault][:96])


def rows(report: Figures) -> dict[str, Figures]:
    """The groups of prompts that a report counts, by what they are called in tables."""
    groups = dict(report.get("generate", {}))
    if "fill" in report:
        groups["fill"] = report["fill"]
    groups["the judge on true drawings"] = report["true scenes"]
    return {name: group for name, group in groups.items() if group["prompts"]}


def print_report(console: Console, report: Figures, faults: list[str]) -> None:
    """Prints the figures as a table, and whether they pass the gate."""
    table = Table("", "prompts", *COUNTED)
    for name, group in rows(report).items():
        shares = (f"{share(group[what]):.3f}" for what in COUNTED)
        table.add_row(name, str(group["prompts"]), *shares)
    console.print(table)
    console.print("gate: " + ("; ".join(faults) if faults else "passed"))
