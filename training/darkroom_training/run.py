"""One training, from its first step or its last checkpoint to the end of its time budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom_training.checkpoint import Average, Checkpoint, load_trained
from darkroom_training.ranks import average_gradients


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a training runs. `flat_share` of the budget has the full rate, which then falls.

    The budget is wall time, or with `cpu_time` the processor time of one rank, which is the same work
    however busy the machine is. With `muon` the matrices between a model's first and last layers are trained by
    Muon, which takes fewer steps, and the rest by AdamW.
    """

    name: str
    budget_s: float
    peak_lr: float
    weight_decay: float
    average_decay: float
    warm_up_steps: int
    flat_share: float
    lowest_share: float
    checkpoint_interval_s: float
    log_interval_steps: int = 50
    cpu_time: bool = False
    muon: bool = False


class TrainingRun:
    """Optimizer, averaged weights, learning rate, clock and checkpoint of one model."""

    def __init__(
        self,
        model: torch.nn.Module,
        file: Path,
        options: RunOptions,
        *,
        rank: int,
        rank_count: int,
        on_checkpoint: Callable[[Average], None],
    ) -> None:
        self._model = model
        self._options = options
        self._rank, self._rank_count = rank, rank_count
        self._on_checkpoint = on_checkpoint
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizers = _optimizers(model, options)
        self._clock = time.process_time if options.cpu_time else time.monotonic
        self._average = Average(model, decay=options.average_decay)
        self._checkpoint = Checkpoint(file, interval_s=options.checkpoint_interval_s)
        self._losses: list[float] = []
        self._used_s = 0.0
        #: Step at which the optimizers had seen nothing yet.
        self._began_step = 0
        #: Steps done, over all sessions of the training.
        self.step = 0
        if (state := self._checkpoint.load()) is not None:
            load_trained(model, state["model"])
            self._average.load(state["average"])
            self._used_s, self.step = state["used_s"], state["step"]
            if "optimizers" in state:
                for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                    optimizer.load_state_dict(saved)
            else:
                self._began_step = self.step

    def steps(self) -> Iterator[int]:
        """Step numbers until the budget is spent; call `descend` once for each."""
        started_s = self._clock() - self._used_s
        while True:
            self._used_s = self._agreed_s(self._clock() - started_s)
            if self._used_s >= self._options.budget_s:
                break
            yield self.step
        if self._rank == 0:
            self.save()

    def descend(self, loss: torch.Tensor) -> None:
        """One step down the averaged gradient of all ranks."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._options.peak_lr * self._rate()
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self._trained, self._rank_count)
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        self._average.update(self._model, self.step)
        self.step += 1
        self._losses.append(float(loss.detach()))
        if self._rank == 0:
            self._report()

    def _rate(self) -> float:
        """Share of the peak rate: warm-up, flat, then a straight line down."""
        options = self._options
        warm_up = min(1.0, (self.step - self._began_step + 1) / options.warm_up_steps)
        left = 1.0 - self._used_s / options.budget_s
        return warm_up * min(1.0, max(options.lowest_share, left / (1.0 - options.flat_share)))

    def _agreed_s(self, used_s: float) -> float:
        """Rank 0's clock, so that all ranks stop at the same step."""
        if self._rank_count == 1:
            return used_s
        clock = torch.tensor([used_s])
        torch.distributed.broadcast(clock, 0)
        return float(clock)

    def _report(self) -> None:
        options = self._options
        if len(self._losses) == options.log_interval_steps:
            mean = sum(self._losses) / len(self._losses)
            share = self._used_s / options.budget_s
            print(
                f"{options.name} step {self.step} {self._used_s:.0f} s ({share:.0%}) "
                f"loss {mean:.4f}",
                flush=True,
            )
            self._losses.clear()
        if self._checkpoint.due():
            self.save()

    def save(self) -> None:
        """Writes the checkpoint; done now and then, and at the end."""
        self._checkpoint.save(
            {
                "model": self._model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
                "average": self._average.values,
                "used_s": self._used_s,
                "step": self.step,
            }
        )
        self._on_checkpoint(self._average)


#: Parts whose matrices look words up or read results out: AdamW's.
_ENDS = ("embed", "reader", "questions", "proj_out", "norm_out", "shared")


def _optimizers(model: torch.nn.Module, options: RunOptions) -> list[torch.optim.Optimizer]:
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inner = [
        p
        for name, p in trained
        if options.muon and p.ndim == 2 and not any(end in name for end in _ENDS)
    ]
    chosen = {id(p) for p in inner}
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [p for _, p in trained if id(p) not in chosen],
            lr=options.peak_lr,
            betas=(0.9, 0.99),
            weight_decay=options.weight_decay,
        )
    ]
    if inner:
        # Its steps are brought to the size of AdamW's, so both take the same rate.
        optimizers.append(
            torch.optim.Muon(
                inner,
                lr=options.peak_lr,
                weight_decay=options.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return optimizers
