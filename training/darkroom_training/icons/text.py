"""The text encoders of version 2, taught before any denoiser: they learn what pictures look like.

A denoiser learns slowly, since most of what it sees is noise. What a cat looks like is therefore learnt
where it costs a third of that and sees no noise: the text encoder puts a *plan* of the picture, all its latents, on the last 36 tokens
of a prompt (padding, which the pipelines attend), each token a 4x4 part of the 24x24 latents; a linear map
reads them, and the loss is their distance to the latents of a scene of that caption. Denoisers then have one
thing to learn, the same for all prompts: to draw what the plan says.

Pooled embeddings are taught to tell what is in the scene (`_Questions`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from darkroom_training.checkpoint import Checkpoint
from darkroom_training.icons import device, pool
from darkroom_training.icons.captions import caption, typed
from darkroom_training.icons.concepts import CONCEPTS
from darkroom_training.icons.scenes import CORNERS, LANDS, SKIES, Gradient, Land, Plain, Scene
from darkroom_training.icons.sheets import write_latents
from darkroom_training.icons.stamps import COLORS
from darkroom_training.icons.tokenizers import MAX_TOKENS, PLAN_TOKENS, clip_words, t5_words
from darkroom_training.icons.vocabulary import FILLERS
from darkroom_training.run import RunOptions, TrainingRun

WORD_WIDTH, PLAN_WIDTH, POOLED_WIDTH = 64, 256, 192
#: Plan tokens along each edge of a picture, latents along each edge of a token's part.
_GRID, _PART = 6, 4
_LATENTS = 4
BATCH = 48
_ODD_WORDS = 0.06


class ClipTexts(torch.nn.Module):
    """SDXL's two text encoders: a small one that says which word stands where, and the planner."""

    def __init__(self, words: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(_clip_config(words, WORD_WIDTH, layers=2))
        self.text_encoder_2 = CLIPTextModelWithProjection(_clip_config(words, PLAN_WIDTH, layers=4))

    def forward(self, token_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Context [B, tokens, 320] and pooled embedding [B, 192], as the SDXL pipeline takes them.

        And what FLUX takes: the small encoder's pooled embedding [B, 64].
        """
        first = self.text_encoder(token_ids, output_hidden_states=True)
        second = self.text_encoder_2(token_ids, output_hidden_states=True)
        context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return context, second.text_embeds, first.pooler_output


def _clip_config(words: CLIPTokenizer, hidden: int, *, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64 or 1,
        max_position_embeddings=MAX_TOKENS,
        projection_dim=POOLED_WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


def t5_encoder(words: T5Tokenizer) -> T5EncoderModel:
    """FLUX's second text encoder, a planner too."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(words),
            d_model=PLAN_WIDTH,
            d_kv=64,
            d_ff=2 * PLAN_WIDTH,
            num_layers=4,
            num_heads=4,
            # Every distance within a prompt is told from every other: padding has no other place.
            relative_attention_num_buckets=128,
            relative_attention_max_distance=128,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )


def token_ids(words: CLIPTokenizer | T5Tokenizer, texts: Sequence[str]) -> torch.Tensor:
    """Token numbers, padded to the tokenizer's length: int64 [B, tokens]."""
    ids: torch.Tensor = words(
        list(texts),
        padding="max_length",
        max_length=MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return device.here(ids)


def prompt(scene: Scene, rng: random.Random) -> str:
    """A caption as people may type it; some have a word that nobody knows, which changes nothing."""
    text = typed(caption(scene, rng), rng, FILLERS)
    if rng.random() < _ODD_WORDS:
        odd = "".join(rng.choice("abcdefghijklmnoprstuvw") for _ in range(rng.randint(3, 7)))
        parts = text.split(" ")
        parts.insert(rng.randint(1, len(parts)), odd)
        text = " ".join(parts)
    return text


_NONE = "none"
_NAMES: dict[str, tuple[str, ...]] = {
    "concept": (_NONE, *CONCEPTS),
    "color": (_NONE, *COLORS),
    "second concept": (_NONE, *CONCEPTS),
    "second color": (_NONE, *COLORS),
    "count": ("1", "2", "3"),
    "size": ("large", "small"),
    "place": tuple(CORNERS),
    "facing": (_NONE, "left", "right"),
    "behind": (_NONE, *COLORS, *LANDS),
    "below": (_NONE, *COLORS, *SKIES),
}


def answers(scene: Scene) -> list[int]:
    """What a scene says to each question of `_Questions`, as numbers of classes."""
    concepts = [thing.concept for thing in scene.things] + [_NONE, _NONE]
    colors = [thing.color or _NONE for thing in scene.things] + [_NONE, _NONE]
    match scene.backdrop:
        case Plain(color):
            behind, below = color or _NONE, _NONE
        case Gradient(top, bottom):
            behind, below = top, bottom
        case Land(land, time):
            behind, below = land, time
    said = {
        "concept": concepts[0],
        "color": colors[0],
        "second concept": concepts[1],
        "second color": colors[1],
        "count": str(scene.count),
        "size": scene.size,
        "place": scene.place,
        "facing": scene.facing or _NONE,
        "behind": behind,
        "below": below,
    }
    return [names.index(said[question]) for question, names in _NAMES.items()]


class _Questions(torch.nn.Module):
    """Linear readers of an embedding, one for each thing that a scene may say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.readers = torch.nn.ModuleList(
            torch.nn.Linear(width, len(names)) for names in _NAMES.values()
        )

    def loss(self, embedding: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy over all questions; `wanted` is int64 [B, questions]."""
        losses = [
            F.cross_entropy(reader(embedding).float(), wanted[:, k])
            for k, reader in enumerate(self.readers)
        ]
        return torch.stack(losses).mean()


class Planner(torch.nn.Module):
    """A text encoder with the readers that teach it."""

    def __init__(self, kind: str, words: CLIPTokenizer | T5Tokenizer) -> None:
        super().__init__()
        self.kind = kind
        width = PLAN_WIDTH
        if kind == "clip":
            self.texts: torch.nn.Module = ClipTexts(words)
            self.pooled_questions = _Questions(POOLED_WIDTH)
            self.small_questions = _Questions(WORD_WIDTH)
        else:
            self.texts = t5_encoder(words)
            self.plan_questions = _Questions(width)
        self.reader = torch.nn.Linear(width, _LATENTS * _PART * _PART)

    def forward(self, ids: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The planned latents [B, 4, 24, 24], and how badly questions are answered."""
        if self.kind == "clip":
            context, pooled, small = self.texts(ids)
            plan = context[:, -PLAN_TOKENS:, WORD_WIDTH:]
            questions = self.pooled_questions.loss(pooled, wanted)
            questions = questions + self.small_questions.loss(small, wanted)
        else:
            plan = self.texts(ids).last_hidden_state[:, -PLAN_TOKENS:]
            questions = self.plan_questions.loss(plan.mean(dim=1), wanted)
        return as_latents(self.reader(plan)), questions


def as_latents(parts: torch.Tensor) -> torch.Tensor:
    """Parts [B, 36, 64] as latents [B, 4, 24, 24]."""
    cells = parts.unflatten(2, (_LATENTS, _PART, _PART)).unflatten(1, (_GRID, _GRID))
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def build(kind: str, folder: Path) -> tuple[Planner, CLIPTokenizer | T5Tokenizer]:
    """A fresh planner (`kind`: "clip" or "t5") with its tokenizer."""
    words = clip_words(folder / "tokenizer") if kind == "clip" else t5_words()
    return Planner(kind, words), words


def load(kind: str, folder: Path) -> tuple[Planner, CLIPTokenizer | T5Tokenizer]:
    """The planner as far as it has been taught (averaged weights), with its tokenizer."""
    model, words = build(kind, folder)
    state = Checkpoint(folder / f"text-{kind}.pt").load()
    if state is None:
        raise FileNotFoundError(f"no checkpoint of text-{kind}: train it first")
    model.load_state_dict({**state["model"], **state["average"]})
    return model.eval(), words


def train(
    rank: int, rank_count: int, folder: Path, budget_s: float, kind: str, peak_lr: float
) -> None:
    """Trains for `budget_s` seconds in all; goes on from the last checkpoint."""
    torch.manual_seed(0)
    model, words = build(kind, folder)
    scenes = pool.load(folder)

    def show(average: object) -> None:
        del average
        chooser = random.Random(5)
        chosen, latents = scenes.choose(12, chooser)
        ids = token_ids(words, [prompt(scene, chooser) for scene in chosen])
        with torch.no_grad():
            planned, _ = model(ids, torch.tensor([answers(scene) for scene in chosen]))
        write_latents(folder, torch.cat([latents, planned.float()]), folder / f"text-{kind}.png")

    run = TrainingRun(
        model,
        folder / f"text-{kind}.pt",
        RunOptions(
            name=f"text {kind}",
            budget_s=budget_s,
            peak_lr=peak_lr,
            weight_decay=1e-3,
            average_decay=0.995,
            warm_up_steps=100,
            flat_share=0.5,
            lowest_share=0.02,
            checkpoint_interval_s=180.0,
            cpu_time=True,
            muon=True,
        ),
        rank=rank,
        rank_count=rank_count,
        on_checkpoint=show,
    )
    torch.manual_seed(7919 * rank + run.step)
    rng = random.Random(1_000_003 * (rank + 1) + run.step)
    for _ in run.steps():
        chosen, latents = scenes.choose(BATCH, rng)
        ids = token_ids(words, [prompt(scene, rng) for scene in chosen])
        wanted = torch.tensor([answers(scene) for scene in chosen])
        with device.mixed(), device.attention():
            planned, questions = model(ids, wanted)
        # Things are a small part of a picture and most of what is to be learnt.
        far = (latents - latents.mean(dim=(2, 3), keepdim=True)).abs().mean(dim=1, keepdim=True)
        weights = 0.5 + far
        run.descend((weights * (planned.float() - latents) ** 2).mean() + 0.05 * questions)
