"""An evaluation of a pipeline folder: measures, prints a table, writes figures and pictures."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoPipelineForInpainting, DiffusionPipeline
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
    GUIDANCE_SCALE,
    STEP_COUNT,
    Figures,
    Result,
    figures,
    gate_faults,
    measure,
    sample_trials,
    share,
    tally,
)
from darkroom_training.scenes import SIZE_PX, ObjectScene, draw, random_scene

MANIFEST_NAME = "MANIFEST.sha256"
COUNTED = ("background", "object at place", "both", "shape")
#: True scenes that the checker itself is checked on.
TRUE_SCENES = 500


def evaluate(
    pipeline_folder: Path,
    report_folder: Path,
    *,
    count: int,
    fill_count: int,
    seed: int,
    held_out_only: bool = False,
) -> Figures:
    """Measures a pipeline folder; writes `evaluation.json` and contact sheets; returns the figures."""
    console = Console()
    pipeline = DiffusionPipeline.from_pretrained(
        pipeline_folder, torch_dtype=torch.float32, local_files_only=True
    )
    trials = sample_trials(count, seed, held_out_only=held_out_only)
    fill_trials = sample_fill_trials(fill_count, seed)
    with Progress(console=console) as progress:
        task = progress.add_task("true scenes", total=TRUE_SCENES)
        true_figures = check_the_checker(TRUE_SCENES, lambda: progress.advance(task))
        task = progress.add_task("pictures", total=count)
        results = measure(pipeline, trials, lambda: progress.advance(task))
        filled: list[FillResult] = []
        if fill_trials:
            task = progress.add_task("fills", total=fill_count)
            inpainting = AutoPipelineForInpainting.from_pipe(pipeline)
            filled = measure_fill(inpainting, fill_trials, lambda: progress.advance(task))
    report = {
        "manifest_sha256": manifest_sha256(pipeline_folder),
        "settings": {
            "size_px": SIZE_PX,
            "step_count": STEP_COUNT,
            "guidance_scale": GUIDANCE_SCALE,
            "seed": seed,
            "held_out_only": held_out_only,
        },
        "generate": figures(results),
        "fill": fill_figures(filled),
        "true scenes": true_figures,
    }
    report_folder.mkdir(parents=True, exist_ok=True)
    (report_folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    write_pictures(report_folder, results, filled)
    print_report(console, report)
    return report


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


def print_report(console: Console, report: Figures) -> None:
    """Prints the figures as a table, and whether they pass the gate."""
    generate = report["generate"]
    rows = {
        "overall": generate["overall"],
        "seen in training": generate["seen in training"],
        "held out": generate["held out"],
        **generate["by shape"],
        **generate["by place"],
        "fill": report["fill"],
        "true scenes": report["true scenes"],
    }
    table = Table("", "prompts", *COUNTED)
    for name, group in rows.items():
        if group["prompts"]:
            shares = (f"{share(group[what]):.3f}" for what in COUNTED)
            table.add_row(name, str(group["prompts"]), *shares)
    console.print(table)
    faults = gate_faults(generate["overall"])
    console.print("gate: " + ("; ".join(faults) if faults else "passed"))
