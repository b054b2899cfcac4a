"""Training state on disk: written whole or not at all, read back to go on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch


class Checkpoint:
    """One file that holds a training's state; saved by rank 0 every `interval_s` seconds."""

    def __init__(self, path: Path, *, interval_s: float = 120.0) -> None:
        self.path = path
        self.interval_s = interval_s
        self._saved_s = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None when training starts afresh."""
        if not self.path.exists():
            return None
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        return state

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved_s >= self.interval_s

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state beside the old file, then takes its place."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)
        self._saved_s = time.monotonic()


def load_trained(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Gives a module these weights; parameters that are not trained may be missing from them."""
    result = module.load_state_dict(weights, strict=False)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    if result.unexpected_keys or trained & set(result.missing_keys):
        raise ValueError(f"weights of another model: {result}")


class Average:
    """Exponential moving average of the parameters of a module that are trained."""

    def __init__(self, module: torch.nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.values = {
            name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad
        }

    @torch.no_grad()
    def load(self, values: dict[str, torch.Tensor]) -> None:
        """Takes the averages of a checkpoint."""
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Moves the average towards the module; faster in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(module.named_parameters())
        for name, value in self.values.items():
            value.lerp_(parameters[name].detach(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        """Overwrites the module's parameters with the average."""
        parameters = dict(module.named_parameters())
        for name, value in self.values.items():
            parameters[name].copy_(value)
