"""Writes the trained parts as a version folder of the model repository.

Weights in half precision, as safetensors only; tokenizers in both of their forms; a manifest. The
same checkpoint gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from darkroom_training.checkpoint import Checkpoint
from darkroom_training.measurement import Figures
from darkroom_training.model_card import render
from darkroom_training.product import Product
from darkroom_training.scorecard import MANIFEST_NAME, evaluate


class GateNotPassed(RuntimeError):
    """The evaluation says that the weights are not good enough to be committed."""


def export(
    product: Product,
    folder: Path,
    model_folder: Path,
    *,
    base: Path,
    version: int,
    count: int,
    fill_count: int,
    seed: int,
    force: bool,
) -> None:
    """Exports the checkpoint in `folder` to `model_folder/version`, if it draws well enough.

    The version is written beside the checkpoint first, measured from there, and only then takes
    its place, together with `evaluation.json` and the README that shows its figures. Raises
    GateNotPassed, unless `force`, with the repository unchanged.
    """
    staged = folder / "export" / product.name / str(version)
    trained = write_version(product, folder, staged, base=base)
    print(f"wrote {staged}: {size_bytes(staged):,} bytes, after {trained['steps']} training steps")
    report_folder = folder / "evaluation" / product.name
    report = evaluate(product, staged, report_folder, count=count, fill_count=fill_count, seed=seed)
    report["training"] = trained
    faults = product.faults(report)
    if faults and not force:
        raise GateNotPassed("; ".join(faults))
    install(product, staged, model_folder, version, report)
    print(f"exported to {model_folder / str(version)}")


def install(
    product: Product, staged: Path, model_folder: Path, version: int, report: Figures
) -> None:
    """Puts a measured version, its figures and its README in their place."""
    target = model_folder / str(version)
    if target.exists():
        shutil.rmtree(target)
    model_folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(staged, target)
    (model_folder / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n")
    card = render(report, size_bytes=size_bytes(target), name=product.name)
    (model_folder / "README.md").write_text(card)


def write_version(product: Product, folder: Path, version_folder: Path, *, base: Path) -> Figures:
    """Writes the checkpoint as a diffusers folder; returns the training behind it."""
    if version_folder.exists():
        shutil.rmtree(version_folder)
    state = Checkpoint(folder / product.checkpoint).load()
    if state is None:
        raise FileNotFoundError("no checkpoint yet: train first")
    pipeline = product.assemble(folder, base, {**state["model"], **state["average"]})
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


def write_vocabulary(words: CLIPTokenizer, folder: Path) -> None:
    """Adds `vocab.json` and `merges.txt`, which every version of transformers reads."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False, separators=(",", ":"))
    (folder / "vocab.json").write_text(vocabulary + "\n")
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
    special = {
        f"{role}_token": str(getattr(words, f"{role}_token"))
        for role in ("bos", "eos", "pad", "unk")
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")


def clean_config(path: Path) -> None:
    """Removes where a part was loaded from; tells text encoders to load in full precision."""
    config = json.loads(path.read_text())
    if not {"_name_or_path", "dtype", "torch_dtype"} & config.keys():
        return
    config.pop("_name_or_path", None)
    for key in ("dtype", "torch_dtype"):
        if key in config:
            config[key] = "float32"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def write_manifest(version_folder: Path) -> None:
    """Lists every file with its SHA-256, in the format of `sha256sum`."""
    manifest = version_folder / MANIFEST_NAME
    manifest.unlink(missing_ok=True)
    names = sorted(
        path.relative_to(version_folder).as_posix()
        for path in version_folder.rglob("*")
        if path.is_file()
    )
    lines = (
        f"{hashlib.sha256((version_folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
    )
    manifest.write_text("".join(lines))


def size_bytes(folder: Path) -> int:
    """What all files of a folder take, but for those that a server keeps there: `.name`."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in found if not path.name.startswith("."))
