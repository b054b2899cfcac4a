"""Writes the trained parts of a model as version 2 in the model repository, with its config and card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from string import Template
from textwrap import fill

import torch
from transformers import CLIPTokenizer

from darkroom_training.checkpoint import Checkpoint
from darkroom_training.export import (
    GateNotPassed,
    clean_config,
    size_bytes,
    write_manifest,
    write_vocabulary,
)
from darkroom_training.icons import classifier, sheets, vocabulary
from darkroom_training.icons.concepts import CONCEPTS, SHAPES
from darkroom_training.icons.product import Product
from darkroom_training.icons.scorecard import COUNTED, evaluate, rows
from darkroom_training.icons.stamps import COLORS
from darkroom_training.measurement import Figures, share

VERSION = "2"
_TEMPLATES = Path(__file__).with_name("templates")
_NOTICE = Path(__file__).with_name("NOTICE")


def export(
    product: Product, folder: Path, repository: Path, *, count: int, seed: int, force: bool
) -> None:
    """Exports the checkpoint in `folder` to `repository/NAME/2`, if it draws well enough.

    Raises GateNotPassed, unless `force`, with the repository unchanged.
    """
    staged = folder / "export" / product.name / VERSION
    trained = write_version(product, folder, staged)
    print(f"wrote {staged}: {size_bytes(staged):,} bytes, after {trained['steps']} training steps")
    report_folder = folder / "evaluation" / product.name
    report = evaluate(product, folder, staged, report_folder, count=count, seed=seed)
    report["training"] = trained
    faults = product.faults(report)
    if faults and not force:
        raise GateNotPassed("; ".join(faults))
    install(product, staged, report_folder, repository / product.name, report)
    classifier.keep(classifier.load(folder))
    print(f"exported to {repository / product.name / VERSION}")


def write_version(product: Product, folder: Path, version_folder: Path) -> Figures:
    """Writes the checkpoint as a diffusers folder; returns the training behind it."""
    if version_folder.exists():
        shutil.rmtree(version_folder)
    state = Checkpoint(folder / product.checkpoint).load()
    if state is None:
        raise FileNotFoundError("no checkpoint yet: train first")
    pipeline = product.assemble(folder, {**state["model"], **state["average"]})
    pipeline.to(torch.float16)
    pipeline.save_pretrained(version_folder, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        words = getattr(pipeline, name)
        if isinstance(words, CLIPTokenizer):
            write_vocabulary(words, version_folder / name)
    for path in sorted(version_folder.rglob("*.json")):
        clean_config(path)
    for path in version_folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    write_manifest(version_folder)
    return {"steps": state["step"], "hours": round(state["used_s"] / 3600, 1)}


def install(
    product: Product,
    staged: Path,
    report_folder: Path,
    model_folder: Path,
    report: Figures,
) -> None:
    """Puts a measured version, its figures, config, card and licences in their place."""
    target = model_folder / VERSION
    if target.exists():
        shutil.rmtree(target)
    model_folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(staged, target)
    (model_folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    (model_folder / "README.md").write_text(card(product, report, size_bytes(target)))
    (model_folder / "config.pbtxt").write_text(config(product))
    shutil.copy(report_folder / "sample.jpg", model_folder / "sample.jpg")
    shutil.copy(_NOTICE, model_folder / "NOTICE")


def config(product: Product) -> str:
    """The model's `config.pbtxt`."""
    listed = ", ".join(f'"{word}"' for word in vocabulary.words())
    examples = (
        tuple(prompt for prompt in sheets.PROMPTS if " and " not in prompt)
        if product.fills
        else sheets.PROMPTS
    )
    return Template((_TEMPLATES / f"{product.name}.pbtxt").read_text()).substitute(
        words=fill(listed, 96, initial_indent="    ", subsequent_indent="    "),
        example_prompts=",\n".join(f'    "{prompt}"' for prompt in examples),
        step_count=product.settings.step_count,
        guidance_scale=f"{product.settings.guidance_scale:g}",
    )


def card(product: Product, report: Figures, model_bytes: int) -> str:
    """The model's README, with the figures of its evaluation."""
    lines = [
        f"| {name} | {group['prompts']} | "
        + " | ".join(_cell(group[what]) for what in COUNTED)
        + " |"
        for name, group in rows(report).items()
    ]
    return Template((_TEMPLATES / f"{product.name}.md").read_text()).substitute(
        size_mb=f"{model_bytes / 1e6:.1f}",
        concepts=", ".join(name for name in CONCEPTS if name not in SHAPES),
        recolored=", ".join(c.name for c in CONCEPTS.values() if c.recolored and c.icon),
        shapes=", ".join(SHAPES),
        colors=", ".join(COLORS),
        prompts="\n".join(sheets.PROMPTS),
        table="\n".join(lines),
        **report["training"],
        **report["settings"],
    )


def _cell(count: Figures) -> str:
    return f"{share(count):.1%}" if count["of"] else "–"
