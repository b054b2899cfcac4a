"""A small network that names what is drawn at a place: the judge of what the models draw.

It sees one place of a picture, scaled to 64 px, and says which concept and which colour is there, or that
nothing is. It learns from renderings, with the blur and the small faults of colour that pictures of a denoiser
have, so that these do not mislead it; it never sees a denoiser's pictures.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from darkroom_training.checkpoint import Checkpoint
from darkroom_training.icons import device
from darkroom_training.icons.concepts import CONCEPTS
from darkroom_training.icons.scenes import SIZE_PX, Pixels, Scene, draw, placed, random_scene
from darkroom_training.icons.stamps import COLORS, SIDES_PX, StampBook
from darkroom_training.run import RunOptions, TrainingRun
from darkroom_training.scene_example import as_tensor

SEEN_PX = 64
_KEPT = Path(__file__).with_name("classifier.safetensors")
NOTHING = "nothing"
CONCEPT_NAMES = (NOTHING, *CONCEPTS)
#: The first stands for an icon's own colours.
COLOR_NAMES: tuple[str | None, ...] = (None, *COLORS)
_BATCH = 64
_MOST_SHIFT_PX = 6


@dataclass(frozen=True, slots=True)
class Place:
    """A square of a picture: its upper left corner and its edge, in pixels."""

    x: int
    y: int
    side_px: int


@dataclass(frozen=True, slots=True)
class Named:
    """What is at a place; `share` is how sure that is, 0..1."""

    concept: str
    color: str | None
    share: float


class Classifier(nn.Module):
    """Four convolutions and two readers."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after)]
            layers += [nn.SiLU(), nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 192), nn.SiLU())
        self.concept_reader = nn.Linear(192, len(CONCEPT_NAMES))
        self.color_reader = nn.Linear(192, len(COLOR_NAMES))

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores of concepts and of colours for parts of pictures [B, 3, 64, 64]."""
        features = self.layers(seen)
        return self.concept_reader(features), self.color_reader(features)


def at_place(picture: torch.Tensor, place: Place) -> torch.Tensor:
    """The part of a picture [3, height, width] at a place, [3, 64, 64]; beyond the edge it repeats."""
    reach = _MOST_SHIFT_PX + 2
    wide = F.pad(picture[None], (reach,) * 4, mode="replicate")
    x, y = place.x + reach, place.y + reach
    part = wide[:, :, y : y + place.side_px, x : x + place.side_px]
    return F.interpolate(part, size=(SEEN_PX, SEEN_PX), mode="bilinear", antialias=True)[0]


def things_at(scene: Scene) -> list[tuple[Place, str, str | None]]:
    """Every place that a scene has something at, with its concept and colour."""
    side_px = SIDES_PX[scene.size]
    return [(Place(x, y, side_px), thing.concept, thing.color) for thing, (x, y) in placed(scene)]


def name(model: Classifier, pictures: Pixels, places: list[Place]) -> list[Named]:
    """What is at one place of each picture, uint8 [N, height, width, 3]."""
    seen = torch.stack(
        [at_place(as_tensor(p), place) for p, place in zip(pictures, places, strict=True)]
    )
    with torch.no_grad():
        concepts, colors = model(device.here(seen))
    shares, found = concepts.softmax(dim=1).max(dim=1)
    return [
        Named(CONCEPT_NAMES[concept], COLOR_NAMES[color], share)
        for concept, color, share in zip(
            found.tolist(), colors.argmax(dim=1).tolist(), shares.tolist(), strict=True
        )
    ]


def train(rank: int, rank_count: int, folder: Path, budget_s: float, peak_lr: float) -> None:
    """Trains for `budget_s` seconds in all; goes on from the last checkpoint."""
    torch.manual_seed(0)
    model, book = Classifier(), StampBook(folder / "icons")
    run = TrainingRun(
        model,
        folder / "classifier.pt",
        RunOptions(
            name="classifier",
            budget_s=budget_s,
            peak_lr=peak_lr,
            weight_decay=1e-3,
            average_decay=0.995,
            warm_up_steps=50,
            flat_share=0.4,
            lowest_share=0.01,
            checkpoint_interval_s=120.0,
            cpu_time=True,
        ),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=lambda _: None,
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    for _ in run.steps():
        seen, concepts, colors = _batch(rng, book)
        by_concept, by_color = model(seen)
        run.descend(F.cross_entropy(by_concept, concepts) + F.cross_entropy(by_color, colors))


def _batch(rng: random.Random, book: StampBook) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Parts of scenes with what is there; a fifth of them have nothing in the middle."""
    seen, concepts, colors = [], [], []
    while len(seen) < _BATCH:
        scene = random_scene(rng)
        picture = as_tensor(draw(scene, rng, book))
        found = things_at(scene)
        for place, concept, color in found:
            moved = Place(
                place.x + rng.randint(-_MOST_SHIFT_PX, _MOST_SHIFT_PX),
                place.y + rng.randint(-_MOST_SHIFT_PX, _MOST_SHIFT_PX),
                place.side_px,
            )
            seen.append(_worn(at_place(picture, moved), rng))
            concepts.append(CONCEPT_NAMES.index(concept))
            colors.append(COLOR_NAMES.index(color))
        empty = empty_place(scene, rng)
        if empty is not None:
            seen.append(_worn(at_place(picture, empty), rng))
            concepts.append(0)
            colors.append(0)
    return (
        device.here(torch.stack(seen[:_BATCH])),
        torch.tensor(concepts[:_BATCH]),
        torch.tensor(colors[:_BATCH]),
    )


def empty_place(scene: Scene, rng: random.Random) -> Place | None:
    """A small place of the scene where nothing stands, if a few tries find one."""
    side_px = SIDES_PX["small"]
    taken = [place for place, _, _ in things_at(scene)]
    if any(place.side_px > side_px for place in taken):
        return None
    for _ in range(4):
        x, y = (rng.randrange(0, SIZE_PX - side_px + 1, 8) for _ in range(2))
        if all(abs(x - p.x) >= side_px - 8 or abs(y - p.y) >= side_px - 8 for p in taken):
            return Place(x, y, side_px)
    return None


def _worn(part: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A part as a denoiser might have drawn it: softer, noisier, of a slightly other colour."""
    if rng.random() < 0.6:
        small = rng.randint(SEEN_PX // 4, SEEN_PX)
        part = F.interpolate(part[None], size=(small, small), mode="bilinear", antialias=True)
        part = F.interpolate(part, size=(SEEN_PX, SEEN_PX), mode="bilinear")[0]
    part = part * rng.uniform(0.9, 1.1) + rng.uniform(-0.06, 0.06)
    return part + rng.uniform(0, 0.08) * torch.randn_like(part)


def keep(model: Classifier) -> None:
    """Writes it into this package in half precision, so that others can judge as it did."""
    save_file({name: value.half() for name, value in model.state_dict().items()}, _KEPT)


def kept() -> Classifier:
    """The one that judged the models of the repository."""
    model = Classifier()
    model.load_state_dict({name: value.float() for name, value in load_file(_KEPT).items()})
    return model.eval()


def load(folder: Path) -> Classifier:
    """The classifier as far as it is trained."""
    state = Checkpoint(folder / "classifier.pt").load()
    if state is None:
        raise FileNotFoundError("no classifier: train it first")
    model = Classifier()
    model.load_state_dict({**state["model"], **state["average"]})
    return model.eval()
