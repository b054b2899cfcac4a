from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom_training.icons.concepts import CONCEPTS
from darkroom_training.icons.stamps import StampBook


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training's folder with an icon cache: for each icon a disc of a colour of its own."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "icons" / "png").mkdir(parents=True)
    y, x = np.mgrid[:32, :32]
    inside = np.hypot(x - 15.5, y - 15.5) < 14
    for icon in sorted({concept.icon for concept in CONCEPTS.values() if concept.icon}):
        rng = random.Random(icon)
        picture = np.zeros((32, 32, 4), dtype=np.uint8)
        picture[inside] = (200, rng.randrange(80), rng.randrange(80), 255)
        name = f"{icon.replace('/', '-')}.png"
        Image.fromarray(picture).save(folder / "icons" / "png" / name)
    return folder


@pytest.fixture(scope="session")
def book(training_folder: Path) -> StampBook:
    return StampBook(training_folder / "icons")
