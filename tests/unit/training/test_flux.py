"""The FLUX models take what the stock pipelines give them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from darkroom_training import flux, flux_fill, t5_tokenizer
from darkroom_training.checkpoint import Average, Checkpoint

BASE = Path(__file__).parents[3] / "model_repo" / "tiny-sdxl" / "1"


@pytest.fixture(scope="module")
def schnell() -> flux.FluxModel:
    """Untrained, but with an output that depends on everything."""
    torch.manual_seed(0)
    model = flux.FluxModel(BASE, t5_tokenizer.build()).eval()
    for parameter in model.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@torch.no_grad()
def _predicted(model: flux.FluxModel, *, extra: int = 0, guided: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(2, 64, flux.TOKEN_CHANNELS, generator=generator)
    condition = torch.randn(2, 64, extra, generator=generator)
    ids = torch.arange(2 * 32).view(2, 32) % 90
    guidance = torch.tensor([30.0, 5.0]) if guided else None
    sigmas = torch.tensor([1.0, 0.25])
    return model(torch.cat([tokens, condition], dim=2), sigmas, ids, ids, guidance)


def test_an_untrained_model_predicts_nothing() -> None:
    model = flux.FluxModel(BASE, t5_tokenizer.build())
    assert _predicted(model).abs().max() == 0


def test_fill_begins_as_the_text_to_image_model(schnell: flux.FluxModel, tmp_path: Path) -> None:
    average = Average(schnell, decay=0.9)
    state = {"model": schnell.state_dict(), "average": average.values, "step": 1, "used_s": 1.0}
    Checkpoint(tmp_path / "flux.pt").save(state)
    fill = flux_fill.build(BASE, t5_tokenizer.build()).eval()
    flux_fill.start_from(fill, tmp_path)
    made = _predicted(fill, extra=flux_fill.CONDITION_CHANNELS, guided=True)
    torch.testing.assert_close(made, _predicted(schnell))


def test_fill_needs_something_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train that first"):
        flux_fill.start_from(flux_fill.build(BASE, t5_tokenizer.build()), tmp_path)


def test_masks_are_packed_as_the_stock_pipeline_packs_them() -> None:
    masks = torch.rand(2, 256, 256, generator=torch.Generator().manual_seed(1)) > 0.5
    words = t5_tokenizer.build()
    pipeline = flux_fill.pipeline(BASE, flux_fill.build(BASE, words))
    packed, _ = pipeline.prepare_mask_latents(
        masks[:, None].float(),
        torch.zeros(2, 4, 16, 16),
        2,
        4,
        1,
        256,
        256,
        torch.float32,
        torch.device("cpu"),
        None,
    )
    assert torch.equal(flux_fill.packed_mask(masks), packed)


def test_half_of_the_sigmas_are_those_that_the_sampler_visits() -> None:
    torch.manual_seed(0)
    visited = torch.tensor([0.25, 0.5, 0.75, 1.0])
    share = torch.isin(flux.sampled_sigmas(2000, visited), visited).float().mean()
    assert 0.45 < float(share) < 0.55


def test_captions_are_varied_as_people_type_them() -> None:
    rng = random.Random(0)
    said = {flux.said("a red circle", rng) for _ in range(500)}
    assert said == {"", "a red circle", "a red circle.", "A red circle", "A red circle."}


def test_prompts_are_padded_to_the_length_that_was_trained() -> None:
    ids = flux.token_ids(t5_tokenizer.build(), ["a red circle", "mountains at sunset"])
    assert ids.shape == (2, t5_tokenizer.MAX_TOKENS)
