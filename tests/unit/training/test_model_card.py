"""The model's README shows the figures of its evaluation and no others."""

from __future__ import annotations

from typing import Any

from darkroom_training.model_card import render


def _group(prompts: int, right: int) -> dict[str, Any]:
    count = {"right": right, "of": prompts}
    return {
        "prompts": prompts,
        "background": count,
        "object at place": count,
        "both": count,
        "shape": count,
    }


def _report(right: int) -> dict[str, Any]:
    return {
        "settings": {"size_px": 256, "step_count": 20, "guidance_scale": 2.5, "seed": 4},
        "generate": {
            "overall": _group(200, right),
            "seen in training": _group(180, right),
            "held out": _group(0, 0),
            "by shape": {"star": _group(200, right)},
            "by place": {"left": _group(200, right)},
        },
        "fill": {**_group(40, 30), "outside difference before pasting": 1.25},
        "true scenes": _group(500, 499),
        "training": {"steps": 12_345, "hours": 1.7},
    }


def test_figures_come_from_the_evaluation() -> None:
    card = render(_report(right=184), size_bytes=11_300_000)
    assert "**92%**" in card
    assert "| all prompts | 200 | 92.0% | 92.0% | 92.0% | 92.0% |" in card
    assert "| the checker on true drawings | 500 | 99.8% |" in card
    assert "11.3 MB" in card
    assert "12345 steps in 1.7 hours" in card


def test_another_evaluation_shows_other_figures() -> None:
    first = render(_report(right=184), size_bytes=11_300_000)
    assert first != render(_report(right=150), size_bytes=11_300_000)


def test_groups_without_prompts_are_left_out() -> None:
    assert "held out of training |" not in render(_report(right=184), size_bytes=11_300_000)
