"""The configs that come with Darkroom, as texts; tests/parity has them beside pipelines."""

from __future__ import annotations

from itertools import combinations

import pytest

from darkroom_server.domain.problems import ProblemLog
from darkroom_server.model_config.config_checks import check_alone
from darkroom_server.model_config.config_file import read_config
from darkroom_server.repository.catalogue import CatalogueEntry, catalogue, find_entry
from darkroom_server.repository.pull import model_name

#: What people and the calls of other services name models by, and what they mean.
DIALECTS = {
    "SDXL1.0-base": "stabilityai/stable-diffusion-xl-base-1.0",
    "SDXL-turbo": "stabilityai/sdxl-turbo",
    "SD1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "SD2": "stabilityai/stable-diffusion-2-1",
    "FLUX.1-dev": "black-forest-labs/FLUX.1-dev",
    "black-forest-labs/flux-dev": "black-forest-labs/FLUX.1-dev",
    "black-forest-labs/flux-schnell": "black-forest-labs/FLUX.1-schnell",
    "black-forest-labs/flux-fill-dev": "black-forest-labs/FLUX.1-Fill-dev",
    "fal-ai/hidream-i1-full": "HiDream-ai/HiDream-I1-Full",
}


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.repo_id)
def test_every_entry_reads_without_a_problem_and_says_what_people_ask(
    entry: CatalogueEntry,
) -> None:
    problems = ProblemLog(model_name(entry.repo_id))
    config = read_config(entry.text.encode(), shown="config.pbtxt", problems=problems)
    assert config is not None
    check_alone(config, problems)
    assert problems.problems == []
    settings = config.settings
    assert settings.display_name
    assert settings.license
    assert settings.aliases
    assert settings.tasks
    assert settings.defaults.step_count is not None
    assert settings.defaults.guidance_scale is not None
    assert settings.limits.max_pixel_count is not None


def test_the_catalogue_has_the_models_that_it_promises() -> None:
    assert {entry.repo_id for entry in catalogue()} == {
        "stabilityai/stable-diffusion-xl-base-1.0",
        "stabilityai/sdxl-turbo",
        "black-forest-labs/FLUX.1-schnell",
        "black-forest-labs/FLUX.1-dev",
        "black-forest-labs/FLUX.1-Fill-dev",
        "HiDream-ai/HiDream-I1-Full",
        "HiDream-ai/HiDream-I1-Dev",
        "HiDream-ai/HiDream-I1-Fast",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "stabilityai/stable-diffusion-2-1",
        "stabilityai/stable-diffusion-3.5-medium",
        "stabilityai/stable-diffusion-3.5-large",
        "stabilityai/stable-diffusion-3.5-large-turbo",
        "Tongyi-MAI/Z-Image",
        "Tongyi-MAI/Z-Image-Turbo",
        "black-forest-labs/FLUX.2-dev",
        "black-forest-labs/FLUX.2-klein-4B",
        "black-forest-labs/FLUX.2-klein-base-4B",
        "Qwen/Qwen-Image",
        "Qwen/Qwen-Image-Edit",
        "Qwen/Qwen-Image-Edit-2509",
        "black-forest-labs/FLUX.1-Kontext-dev",
        "lodestones/Chroma1-HD",
        "AIDC-AI/Ovis-Image-7B",
        "Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
        "Alpha-VLLM/Lumina-Image-2.0",
        "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "zai-org/CogView4-6B",
        "fal/AuraFlow-v0.3",
    }


@pytest.mark.parametrize(("name", "repo_id"), DIALECTS.items())
def test_names_that_other_services_use_mean_the_model(name: str, repo_id: str) -> None:
    entry = find_entry(repo_id)
    assert entry is not None
    names = {model_name(repo_id), *(alias.casefold() for alias in entry.settings().aliases)}
    assert name.casefold() in names


def test_no_two_entries_claim_a_name() -> None:
    names = {
        entry.repo_id: {model_name(entry.repo_id), *map(str.casefold, entry.settings().aliases)}
        for entry in catalogue()
    }
    assert [pair for pair in combinations(names, 2) if names[pair[0]] & names[pair[1]]] == []


def test_an_entry_is_found_whatever_the_case() -> None:
    entry = find_entry("Black-Forest-Labs/flux.1-SCHNELL")
    assert entry is not None
    assert entry.repo_id == "black-forest-labs/FLUX.1-schnell"
    assert find_entry("somebody/flux.1-schnell") is None


def test_names_that_others_have_can_be_left_out() -> None:
    entry = CatalogueEntry("a/b", '# A note.\naliases: "one"\naliases: "two"\nlicense: "x"\n')
    assert entry.note == "A note."
    assert entry.text_without({"ONE"}) == '# A note.\naliases: "two"\nlicense: "x"\n'
    assert entry.text_without(()) == entry.text
