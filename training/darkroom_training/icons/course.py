"""The stages of the training in order, each with its budget; started again, it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from darkroom_training import ranks
from darkroom_training.icons import (
    autoencoder,
    classifier,
    compact,
    flux,
    flux_fill,
    pool,
    sdxl,
    text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage.

    `budget_s` is processor time of each of two ranks, 0 for stages that end by themselves.
    `run(folder, rank_count, budget_s)` returns at once when the budget is spent.
    """

    what: str
    budget_s: float
    run: Callable[[Path, int, float], None]


def _vae(phase: str, peak_lr: float) -> Callable[[Path, int, float], None]:
    def run(folder: Path, rank_count: int, budget_s: float) -> None:
        ranks.launch(
            autoencoder.train, rank_count=rank_count, args=(folder, budget_s, phase, peak_lr)
        )

    return run


def _fold(folder: Path, rank_count: int, budget_s: float) -> None:
    del rank_count, budget_s
    if not (folder / "vae-folded.pt").exists():
        autoencoder.fold(folder)


def _pool(shard_count: int) -> Callable[[Path, int, float], None]:
    def run(folder: Path, rank_count: int, budget_s: float) -> None:
        del budget_s
        ranks.launch(pool.extend, rank_count=rank_count, args=(folder, shard_count))

    return run


def _text(kind: str, peak_lr: float) -> Callable[[Path, int, float], None]:
    def run(folder: Path, rank_count: int, budget_s: float) -> None:
        ranks.launch(text.train, rank_count=rank_count, args=(folder, budget_s, kind, peak_lr))

    return run


def _denoiser(train: Callable[..., None], peak_lr: float) -> Callable[[Path, int, float], None]:
    def run(folder: Path, rank_count: int, budget_s: float) -> None:
        ranks.launch(train, rank_count=rank_count, args=(folder, budget_s, peak_lr))

    return run


STAGES: dict[str, Stage] = {
    "vae": Stage(what="autoencoder, whole", budget_s=420, run=_vae("joint", 1e-3)),
    "fold": Stage(what="latents to mean 0 and deviation 1", budget_s=0, run=_fold),
    "pool": Stage(what="scenes with their latents", budget_s=0, run=_pool(10)),
    "text-clip": Stage(what="CLIP text encoders", budget_s=1200, run=_text("clip", 1e-3)),
    "sdxl": Stage(what="tiny-sdxl's UNet", budget_s=1500, run=_denoiser(sdxl.train, 1e-3)),
    "text-t5": Stage(what="T5 text encoder", budget_s=1200, run=_text("t5", 1e-3)),
    "flux": Stage(what="tiny-flux-schnell", budget_s=1200, run=_denoiser(flux.train, 1e-3)),
    "flux-fill": Stage(what="tiny-flux-fill", budget_s=800, run=_denoiser(flux_fill.train, 1e-3)),
    "classifier": Stage(
        what="the judge of what models draw", budget_s=150, run=_denoiser(classifier.train, 2e-3)
    ),
    "decoder": Stage(what="autoencoder's decoder", budget_s=900, run=_vae("decoder", 1e-3)),
}


def run_stage(name: str, folder: Path, *, rank_count: int, share: float) -> None:
    """Runs a stage to the end of its budget, then writes its compact checkpoint."""
    stage = STAGES[name]
    folder.mkdir(parents=True, exist_ok=True)
    budget_s = stage.budget_s * share
    print(f"{time.strftime('%H:%M:%S')} {name}: {stage.what}, {budget_s:.0f} s a rank", flush=True)
    stage.run(folder, rank_count, budget_s)
    compact.write(folder)


def run_all(folder: Path, *, rank_count: int, share: float) -> None:
    """Runs all stages in order; what is done already takes no time."""
    for number, name in enumerate(STAGES, 1):
        print(f"stage {number} of {len(STAGES)}", flush=True)
        run_stage(name, folder, rank_count=rank_count, share=share)
    print("done", flush=True)
