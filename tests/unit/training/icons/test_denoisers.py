"""The denoisers take what the stock pipelines give them; the config says what they know."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_checks import check_alone
from darkroom_server.model_config.config_file import read_config
from darkroom_training.checkpoint import Average, Checkpoint
from darkroom_training.icons import autoencoder, exporting, flux, flux_fill, sdxl, text, vocabulary
from darkroom_training.icons.captions import caption
from darkroom_training.icons.product import PRODUCTS
from darkroom_training.icons.scenes import random_scene
from darkroom_training.icons.tokenizers import MAX_TOKENS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training whose text encoders and autoencoder are there, as good as untrained."""
    folder = tmp_path_factory.mktemp("denoisers")
    torch.manual_seed(0)
    torch.save(autoencoder.build().state_dict(), folder / "vae-folded.pt")
    for kind in ("clip", "t5"):
        model, _ = text.build(kind, folder)
        _save(folder / f"text-{kind}.pt", model)
    return folder


def _save(file: Path, model: torch.nn.Module) -> None:
    average = Average(model, decay=0.9)
    Checkpoint(file).save(
        {"model": model.state_dict(), "average": average.values, "step": 1, "used_s": 1.0}
    )


def test_the_sdxl_pipeline_draws(folder: Path) -> None:
    model, words = sdxl.start(folder)
    pipeline = sdxl.pipeline(folder, model.eval(), words)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(["a cat", "two dogs"], num_inference_steps=2, guidance_scale=2.0)
    assert [image.size for image in drawn.images] == [(192, 192)] * 2


def test_only_the_unet_is_trained(folder: Path) -> None:
    model, _ = sdxl.start(folder)
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"unet"}


def test_the_flux_pipeline_draws_what_its_t5_says(folder: Path) -> None:
    model, words, t5_words = flux.start(folder)
    for parameter in model.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    pipeline = flux.pipeline(folder, model.eval(), words, t5_words)
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    latents = pipeline(
        ["a cat", "a dog"],
        height=192,
        width=192,
        generator=generators,
        output_type="latent",
        **flux.SETTINGS.arguments(),
    ).images
    assert latents.shape == (2, 144, 16)
    assert not torch.allclose(latents[0], latents[1])


def test_fill_begins_as_the_text_to_image_model(folder: Path) -> None:
    torch.manual_seed(0)
    model, _, _ = flux.start(folder)
    for parameter in model.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    _save(folder / "flux.pt", model)
    fill, _, _ = flux_fill.start(folder)
    tokens, condition = torch.randn(2, 144, 16), torch.randn(2, 144, flux_fill.CONDITION_CHANNELS)
    ids = torch.arange(2 * MAX_TOKENS).view(2, MAX_TOKENS)
    sigmas = torch.tensor([1.0, 0.25])
    with torch.no_grad():
        drawn = model(tokens, sigmas, ids, ids)
        filled = fill(
            torch.cat([tokens, condition], dim=2), sigmas, ids, ids, torch.tensor([30.0, 5.0])
        )
    torch.testing.assert_close(filled, drawn)


def test_masks_are_packed_as_the_stock_pipeline_packs_them(folder: Path) -> None:
    masks = torch.rand(2, 192, 192, generator=torch.Generator().manual_seed(1)) > 0.5
    model, words, t5_words = flux.start(
        folder, condition_channels=flux_fill.CONDITION_CHANNELS, guided=True
    )
    pipeline = flux_fill.pipeline(folder, model, words, t5_words)
    packed, _ = pipeline.prepare_mask_latents(
        masks[:, None].float(),
        torch.zeros(2, 4, 24, 24),
        *(2, 4, 1, 192, 192),
        torch.float32,
        torch.device("cpu"),
        None,
    )
    assert torch.equal(flux_fill.packed_mask(masks), packed)


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_exported_config_is_sound_and_knows_every_caption(name: str) -> None:
    problems = ProblemLog(name)
    content = exporting.config(PRODUCTS[name]).encode()
    config = read_config(content, shown="config.pbtxt", problems=problems)
    assert config is not None, problems.problems
    check_alone(config, problems)
    assert problems.problems == []
    told = config.settings.vocabulary
    assert set(told.words) == set(vocabulary.words())
    rng = random.Random(7)
    for _ in range(500):
        assert told.unknown_in(caption(random_scene(rng), rng)) == ()


def test_all_models_together_are_small_enough(folder: Path) -> None:
    """In half precision, with the text encoders and the autoencoder of each."""
    fill_transformer = flux.start(
        folder, condition_channels=flux_fill.CONDITION_CHANNELS, guided=True
    )[0]
    models = (sdxl.start(folder)[0], flux.start(folder)[0], fill_transformer)
    weights = sum(p.numel() for model in models for p in model.parameters())
    weights += 3 * sum(p.numel() for p in autoencoder.build().parameters())
    assert 2 * weights < 58e6
