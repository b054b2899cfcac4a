"""Trainings that go on: on this machine, or from a compact checkpoint on another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkroom_training.checkpoint import Average, Checkpoint, load_trained
from darkroom_training.icons import compact
from darkroom_training.run import RunOptions, TrainingRun


class _Model(torch.nn.Module):
    """A matrix that Muon trains, a reader that AdamW does, and a part that nothing does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(8, 8)
        self.reader = torch.nn.Linear(8, 1)
        self.texts = torch.nn.Linear(8, 8).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        read: torch.Tensor = self.reader(self.inner(self.texts(x)).relu())
        return read


def _options(budget_s: float) -> RunOptions:
    return RunOptions(
        name="test",
        budget_s=budget_s,
        peak_lr=1e-2,
        weight_decay=0.0,
        average_decay=0.9,
        warm_up_steps=5,
        flat_share=0.5,
        lowest_share=0.02,
        checkpoint_interval_s=1e9,
        cpu_time=True,
        muon=True,
    )


def _trained(file: Path, *, steps: int, budget_s: float = 1e9) -> tuple[_Model, TrainingRun]:
    torch.manual_seed(0)
    model = _Model()
    run = TrainingRun(
        model, file, _options(budget_s), rank=0, rank_count=1, on_checkpoint=lambda _: None
    )
    x = torch.randn(16, 8)
    for step in run.steps():
        if step >= steps:
            break
        run.descend((model(x) - 1).pow(2).mean())
    run.save()
    return model, run


def test_a_training_goes_on_with_its_optimizers(tmp_path: Path) -> None:
    _trained(tmp_path / "sdxl.pt", steps=20)
    together, _ = _trained(tmp_path / "sdxl.pt", steps=40)
    at_once, run = _trained(tmp_path / "other.pt", steps=40)
    assert run.step == 40
    torch.testing.assert_close(together.state_dict(), at_once.state_dict())


def test_what_is_not_trained_stays_and_has_no_average(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = _Model().texts.weight
    model, _ = _trained(tmp_path / "sdxl.pt", steps=5)
    assert torch.equal(model.texts.weight, before)
    assert not any("texts" in name for name in Average(model, decay=0.9).values)


def test_a_compact_checkpoint_goes_on_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "compact").mkdir(parents=True)
    model, _ = _trained(here / "sdxl.pt", steps=30)
    compact.write(here)
    there.mkdir()
    (here / "compact").rename(there / "compact")
    compact.resume(there)
    resumed, run = _trained(there / "sdxl.pt", steps=30)
    assert run.step == 30
    average = Checkpoint(here / "sdxl.pt").load()
    assert average is not None
    torch.testing.assert_close(
        resumed.inner.weight.detach(), average["average"]["inner.weight"], rtol=1e-3, atol=1e-3
    )
    assert torch.equal(resumed.texts.weight, model.texts.weight)
    _, further = _trained(there / "sdxl.pt", steps=33)
    assert further.step == 33


def test_compact_checkpoints_are_half_as_large_as_weights_in_full(tmp_path: Path) -> None:
    (tmp_path / "compact").mkdir()
    _trained(tmp_path / "sdxl.pt", steps=3)
    compact.write(tmp_path)
    small = torch.load(tmp_path / "compact" / "sdxl.pt", weights_only=True)
    assert all(value.dtype == torch.float16 for value in small["weights"].values())
    assert not any(name.startswith("texts.") for name in small["weights"])


def test_what_is_there_is_not_overwritten_by_an_older_compact_one(tmp_path: Path) -> None:
    (tmp_path / "compact").mkdir()
    _trained(tmp_path / "sdxl.pt", steps=3)
    compact.write(tmp_path)
    _trained(tmp_path / "sdxl.pt", steps=6)
    compact.resume(tmp_path)
    state = Checkpoint(tmp_path / "sdxl.pt").load()
    assert state is not None
    assert state["step"] == 6


def test_weights_of_another_model_are_refused() -> None:
    weights = _Model().state_dict()
    del weights["inner.weight"]
    with pytest.raises(ValueError, match="another model"):
        load_trained(_Model(), weights)


def test_a_spent_budget_ends_a_training_at_once(tmp_path: Path) -> None:
    _, run = _trained(tmp_path / "sdxl.pt", steps=5, budget_s=0.0)
    assert run.step == 0
