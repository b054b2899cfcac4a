"""The embedded model's README: a template whose figures come from an evaluation."""

from __future__ import annotations

from pathlib import Path
from string import Template

from darkroom_training.measurement import Figures, share
from darkroom_training.scenes import COLORS, LANDS, PLACES, SKIES
from darkroom_training.shapes import SHAPES

_TEMPLATE = Path(__file__).with_name("model_card.md")
_COUNTED = ("background", "object at place", "both", "shape")


def render(report: Figures, *, size_bytes: int) -> str:
    """The README of a model with this evaluation and this size on disk."""
    generate, fill, settings = report["generate"], report["fill"], report["settings"]
    rows = {
        "all prompts": generate["overall"],
        "combinations seen in training": generate["seen in training"],
        "combinations held out of training": generate["held out"],
        **{f"shape: {name}": group for name, group in generate["by shape"].items()},
        **{f"place: {name}": group for name, group in generate["by place"].items()},
        "fill": fill,
        "the checker on true drawings": report["true scenes"],
    }
    template = Template(_TEMPLATE.read_text())
    return template.substitute(
        shapes=", ".join(SHAPES),
        colors=", ".join(COLORS),
        places=", ".join(PLACES),
        lands=", ".join(LANDS),
        times=", ".join(SKIES),
        size_mb=f"{size_bytes / 1e6:.1f}",
        prompt_count=generate["overall"]["prompts"],
        both=f"{share(generate['overall']['both']):.0%}",
        shape=f"{share(generate['overall']['shape']):.0%}",
        outside=fill["outside difference before pasting"],
        table="\n".join(_row(name, group) for name, group in rows.items() if group["prompts"]),
        **report["training"],
        **{name: settings[name] for name in ("size_px", "step_count", "guidance_scale", "seed")},
    )


def _row(name: str, group: Figures) -> str:
    cells = " | ".join(_cell(group[what]) for what in _COUNTED)
    return f"| {name} | {group['prompts']} | {cells} |"


def _cell(count: Figures) -> str:
    return f"{share(count):.1%}" if count["of"] else "–"
