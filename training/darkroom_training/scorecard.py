"""An evaluation of a pipeline folder: measures, prints a table, writes figures and pictures."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoPipelineForInpainting, DiffusionPipeline, FluxFillPipeline
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from darkroom_training.evaluation import Verdict, judge
from darkroom_training.fill_measurement import (
    FillResult,
    fill_figures,
    measure_fill,
    sample_fill_trials,
)
from darkroom_training.gallery import Exhibit, write_sheet
from darkroom_training.measurement import (
    Figures,
    Result,
    figures,
    measure,
    sample_trials,
    share,
    tally,
)
from darkroom_training.product import Product
from darkroom_training.scenes import SIZE_PX, ObjectScene, draw, random_scene

MANIFEST_NAME = "MANIFEST.sha256"
COUNTED = ("background", "object at place", "both", "shape")
#: True scenes that the checker itself is checked on.
TRUE_SCENES = 500


def evaluate(
    product: Product,
    pipeline_folder: Path,
    report_folder: Path,
    *,
    count: int,
    fill_count: int,
    seed: int,
    held_out_only: bool = False,
) -> Figures:
    """Measures a product's folder; writes `evaluation.json` and contact sheets; returns the figures.

    Only what the product can do is drawn: `count` prompts, `fill_count` masked pictures, or both.
    """
    console = Console()
    pipeline = DiffusionPipeline.from_pretrained(
        pipeline_folder, torch_dtype=torch.float32, local_files_only=True
    )
    settings = product.settings
    report: Figures = {
        "manifest_sha256": manifest_sha256(pipeline_folder),
        "settings": {
            "size_px": SIZE_PX,
            "step_count": settings.step_count,
            "guidance_scale": settings.guidance_scale,
            "seed": seed,
            "held_out_only": held_out_only,
        },
    }
    results: list[Result] = []
    filled: list[FillResult] = []
    with Progress(console=console) as progress:
        if product.least is not None:
            trials = sample_trials(count, seed, held_out_only=held_out_only)
            task = progress.add_task("pictures", total=count)
            results = measure(pipeline, trials, lambda: progress.advance(task), settings=settings)
            report["generate"] = figures(results)
        if product.least_filled is not None:
            fill_trials = sample_fill_trials(fill_count, seed)
            task = progress.add_task("fills", total=fill_count)
            inpainting = _inpainting(pipeline) if fill_trials else None
            filled = measure_fill(
                inpainting, fill_trials, lambda: progress.advance(task), settings=settings
            )
            report["fill"] = fill_figures(filled)
        task = progress.add_task("true scenes", total=TRUE_SCENES)
        report["true scenes"] = check_the_checker(TRUE_SCENES, lambda: progress.advance(task))
    report_folder.mkdir(parents=True, exist_ok=True)
    (report_folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    write_pictures(report_folder, results, filled)
    print_report(console, report, product.faults(report))
    return report


def _inpainting(pipeline: Any) -> Any:
    """The pipeline that fills: the model's own, or made of its parts."""
    if isinstance(pipeline, FluxFillPipeline):
        return pipeline
    return AutoPipelineForInpainting.from_pipe(pipeline)


def check_the_checker(count: int, on_scene: Callable[[], None] = lambda: None) -> Figures:
    """The figures that drawn scenes get: what the checker says where everything is right."""
    rng = random.Random("true scenes")
    verdicts: list[Verdict] = []
    while len(verdicts) < count:
        scene = random_scene(rng)
        if isinstance(scene, ObjectScene):
            verdicts.append(judge(draw(scene, rng), scene))
            on_scene()
    return tally(verdicts)


def manifest_sha256(pipeline_folder: Path) -> str | None:
    """Identifies the files that were measured; None for a folder without a manifest."""
    manifest = pipeline_folder / MANIFEST_NAME
    if not manifest.exists():
        return None
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def write_pictures(folder: Path, results: list[Result], filled: list[FillResult]) -> None:
    """Writes contact sheets of everything, of what is wrong, and of the fills."""
    drawn = [
        Exhibit(r.picture, r.trial.prompt, None if r.verdict.right else r.verdict.fault)
        for r in results
    ]
    repainted = [
        Exhibit(r.picture, r.trial.prompt, None if r.verdict.right else r.verdict.fault)
        for r in filled
    ]
    write_sheet(folder / "everything.png", drawn)
    write_sheet(folder / "failures.png", [exhibit for exhibit in drawn if exhibit.fault])
    write_sheet(folder / "fills.png", repainted)


def rows(report: Figures) -> dict[str, Figures]:
    """The groups of prompts that a report counts, by what they are called in tables."""
    generate = report.get("generate")
    groups: dict[str, Figures] = {}
    if generate is not None:
        groups = {
            "all prompts": generate["overall"],
            "combinations seen in training": generate["seen in training"],
            "combinations held out of training": generate["held out"],
            **{f"shape: {name}": group for name, group in generate["by shape"].items()},
            **{f"place: {name}": group for name, group in generate["by place"].items()},
        }
    if "fill" in report:
        groups["fill"] = report["fill"]
    groups["the checker on true drawings"] = report["true scenes"]
    return {name: group for name, group in groups.items() if group["prompts"]}


def print_report(console: Console, report: Figures, faults: Sequence[str]) -> None:
    """Prints the figures as a table, and whether they pass the gate."""
    table = Table("", "prompts", *COUNTED)
    for name, group in rows(report).items():
        shares = (f"{share(group[what]):.3f}" for what in COUNTED)
        table.add_row(name, str(group["prompts"]), *shares)
    console.print(table)
    console.print("gate: " + ("; ".join(faults) if faults else "passed"))
