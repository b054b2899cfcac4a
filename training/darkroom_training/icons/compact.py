"""Checkpoints without what can be made again: averaged weights in half precision.

On another machine a training goes on from them with a fresh optimizer, which costs a few hundred steps.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

STAGES = (
    *("vae-joint", "vae-decoder", "text-clip", "text-t5"),
    *("sdxl", "flux", "flux-fill", "classifier"),
)
#: Weights that another stage's checkpoint has already.
_ELSEWHERE = {
    "sdxl": ("texts.",),
    "flux": ("text_encoder.", "text_encoder_2."),
    "flux-fill": ("text_encoder.", "text_encoder_2."),
}
_FOLDED = "vae-folded.pt"


def write(folder: Path) -> None:
    """Writes `compact/<stage>.pt` for every stage whose checkpoint is newer than that."""
    target = folder / "compact"
    target.mkdir(exist_ok=True)
    for stage in STAGES:
        source, small = folder / f"{stage}.pt", target / f"{stage}.pt"
        if source.exists() and not _is_newer(small, source):
            state = torch.load(source, map_location="cpu", weights_only=True)
            _save(_shrunk(state, stage), small)
    # In full precision: latents of the pool must stay what they are.
    if (folder / _FOLDED).exists() and not _is_newer(target / _FOLDED, folder / _FOLDED):
        _save(torch.load(folder / _FOLDED, weights_only=True), target / _FOLDED)


def resume(folder: Path) -> None:
    """Writes a checkpoint for every compact one whose stage has none in the folder."""
    source = folder / "compact"
    for stage in STAGES:
        small, target = source / f"{stage}.pt", folder / f"{stage}.pt"
        if small.exists() and not target.exists():
            state = torch.load(small, weights_only=True)
            weights = {
                name: value.float() if value.is_floating_point() else value
                for name, value in state["weights"].items()
            }
            _save(
                {
                    "model": weights,
                    "average": {name: weights[name] for name in state["averaged"]},
                    "used_s": state["used_s"],
                    "step": state["step"],
                },
                target,
            )
            print(f"{stage}: goes on from step {state['step']}")
    if (source / _FOLDED).exists() and not (folder / _FOLDED).exists():
        _save(torch.load(source / _FOLDED, weights_only=True), folder / _FOLDED)


def _shrunk(state: dict[str, Any], stage: str) -> dict[str, Any]:
    elsewhere = _ELSEWHERE.get(stage, ())
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in {**state["model"], **state["average"]}.items()
        if not name.startswith(elsewhere)
    }
    averaged = [name for name in state["average"] if name in weights]
    return {
        "weights": weights,
        "averaged": averaged,
        "step": state["step"],
        "used_s": state["used_s"],
    }


def _is_newer(small: Path, source: Path) -> bool:
    return small.exists() and small.stat().st_mtime >= source.stat().st_mtime


def _save(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
