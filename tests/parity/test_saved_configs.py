"""What `save_pretrained` of the installed diffusers writes is read: every scheduler's settings."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import diffusers
import pytest

from darkroom_server.repository.json_files import parse_object
from tests.unit.repository.builders import SDXL_INDEX, Repository, dump

SCHEDULERS = sorted(
    name
    for name, kind in inspect.getmembers(diffusers, inspect.isclass)
    if issubclass(kind, diffusers.SchedulerMixin) and kind is not diffusers.SchedulerMixin
)


#: What these cannot be made without.
NEEDED = {"AmusedScheduler": {"mask_token_id": 1}, "VQDiffusionScheduler": {"num_vec_classes": 2}}


def saved(kind: str, folder: Path) -> bytes:
    getattr(diffusers, kind)(**NEEDED.get(kind, {})).save_pretrained(folder)
    return (folder / "scheduler_config.json").read_bytes()


def test_every_saved_scheduler_is_read(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "root")
    assert len(SCHEDULERS) > 40
    for kind in SCHEDULERS:
        content = saved(kind, tmp_path / kind)
        assert str(parse_object(content)) == str(json.loads(content))
        repository.pipeline(kind, index={**SDXL_INDEX, "scheduler": ["diffusers", kind]})
        repository.write(f"{kind}/1/scheduler/scheduler_config.json", content)
    # Whether a family can step it is another question.
    assert not any("is not valid" in text for text in repository.complaints())


def test_some_of_them_hold_numbers_without_end(tmp_path: Path) -> None:
    assert b"-Infinity" in saved("DPMSolverMultistepScheduler", tmp_path)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "scheduler", "tokenizer"])
def test_such_numbers_are_read_in_every_parts_settings(
    tmp_path: Path, part: str, word: str
) -> None:
    repository = Repository(tmp_path)
    repository.pipeline("m")
    names = {"scheduler": "scheduler_config.json", "tokenizer": "tokenizer_config.json"}
    file = tmp_path / "m" / "1" / part / names.get(part, "config.json")
    settings = json.loads(file.read_bytes()) | {"sample_size": float(word), "clip": [float(word)]}
    file.write_bytes(dump(settings))
    index = SDXL_INDEX | {"ratio": float(word)}
    repository.write("m/1/model_index.json", dump(index))
    # Whether a family honours them is another question.
    assert repository.errors() == []
