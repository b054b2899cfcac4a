"""Checkpoints without what can be found again: averaged weights in half precision.

A training goes on from one on another machine, with a fresh optimizer; it costs a few hundred steps.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

_STAGES = ("vae-joint", "vae-decoder", "text-clip", "text-t5", "sdxl", "flux", "flux-fill")
#: Parts that another stage's checkpoint has already.
_ELSEWHERE = {
    "sdxl": ("texts.",),
    "flux": ("text_encoder.", "text_encoder_2."),
    "flux-fill": ("text_encoder.", "text_encoder_2."),
    "vae-decoder": ("encoder.",),
}


def write(folder: Path) -> None:
    """Writes `compact/<stage>.pt` for every stage whose checkpoint is newer than it."""
    target = folder / "compact"
    target.mkdir(exist_ok=True)
    for stage in _STAGES:
        source, small = folder / f"{stage}.pt", target / f"{stage}.pt"
        if source.exists() and (
            not small.exists() or small.stat().st_mtime < source.stat().st_mtime
        ):
            _save(_shrunk(torch.load(source, map_location="cpu", weights_only=True), stage), small)
    folded = folder / "vae-folded.pt"
    if folded.exists():
        state = torch.load(folded, weights_only=True)
        _save(state, target / "vae-folded.pt")


def _shrunk(state: dict[str, Any], stage: str) -> dict[str, Any]:
    weights = {**state["model"], **state["average"]}
    kept = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
        if not name.startswith(_ELSEWHERE.get(stage, ("\0",)))
    }
    return {"weights": kept, "step": state["step"], "used_s": state["used_s"]}


def _save(state: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
