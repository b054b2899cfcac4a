"""The embedded models' READMEs: templates whose figures come from an evaluation."""

from __future__ import annotations

from pathlib import Path
from string import Template

from darkroom_training.measurement import Figures, share
from darkroom_training.scenes import COLORS, LANDS, PLACES, SKIES
from darkroom_training.scorecard import COUNTED, rows
from darkroom_training.shapes import SHAPES

_CARDS = Path(__file__).with_name("cards")


def render(report: Figures, *, size_bytes: int, name: str = "tiny-sdxl") -> str:
    """The README of the model `name` with this evaluation and this size on disk."""
    figures: dict[str, object] = {
        "size_mb": f"{size_bytes / 1e6:.1f}",
        "table": "\n".join(_row(group, counts) for group, counts in rows(report).items()),
        **report["training"],
        **report["settings"],
    }
    if (generate := report.get("generate")) is not None:
        overall = generate["overall"]
        figures |= {
            "prompt_count": overall["prompts"],
            "both": f"{share(overall['both']):.0%}",
            "shape": f"{share(overall['shape']):.0%}",
        }
    if (fill := report.get("fill")) is not None:
        figures |= {
            "fill_count": fill["prompts"],
            "fill_object": f"{share(fill['object at place']):.0%}",
            "fill_shape": f"{share(fill['shape']):.0%}",
            "outside": fill["outside difference before pasting"],
        }
    return Template((_CARDS / f"{name}.md").read_text()).substitute(
        vocabulary=_vocabulary(), judgement=_fragment("judgement"), **figures
    )


def _vocabulary() -> str:
    return Template(_fragment("vocabulary")).substitute(
        shapes=", ".join(SHAPES),
        colors=", ".join(COLORS),
        places=", ".join(PLACES),
        lands=", ".join(LANDS),
        times=", ".join(SKIES),
    )


def _fragment(name: str) -> str:
    """What several READMEs say in the same words."""
    return (_CARDS / f"{name}.md").read_text().rstrip("\n")


def _row(name: str, group: Figures) -> str:
    cells = " | ".join(_cell(group[what]) for what in COUNTED)
    return f"| {name} | {group['prompts']} | {cells} |"


def _cell(count: Figures) -> str:
    return f"{share(count):.1%}" if count["of"] else "–"
