"""What a command shows of a request while it runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from darkroom_client import Completed, Event, Progress, Queued, Stage, Timings, Warning
from darkroom_server.cli.progress import (
    Bar,
    Plain,
    Silent,
    describe,
    print_warnings,
    view_for,
)

NO_TIME = Timings(queue_s=0, load_s=0, encode_s=0, denoise_s=0, decode_s=0, compress_s=0, total_s=0)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        pytest.param(Queued(3, model_loading=False), "queued, 3 ahead", id="queued"),
        pytest.param(Queued(0, model_loading=False), "queued", id="next"),
        pytest.param(Queued(1, model_loading=True), "loading the model", id="model-loading"),
        pytest.param(
            Queued(0, False, 0.236, 1.47),
            "queued, ready in about 0.2 s, likely within 1.5 s",
            id="estimated",
        ),
        pytest.param(Progress(Stage.DENOISE, 1, 4), "denoising", id="denoising"),
        pytest.param(Progress(Stage.UNKNOWN, 0, 0), "working", id="stage-of-the-future"),
        pytest.param(Completed(1, NO_TIME), "", id="completed"),
    ],
)
def test_events_in_words(event: Event, text: str) -> None:
    assert describe(event) == text


def test_every_stage_has_words() -> None:
    assert all(describe(Progress(stage, 0, 0)) for stage in Stage)


def test_what_is_told_of_width_and_height_alike_is_told_once() -> None:
    written = io.StringIO()
    told = [Warning("SIZE_UNTRAINED", "too large", field) for field in ("width_px", "height_px")]
    event = Completed(1, NO_TIME, warnings=(*told, Warning("OTHER", "something else")))
    print_warnings(Console(file=written), event)
    assert written.getvalue() == "warning: --size: too large\nwarning: something else\n"


def test_a_bar_is_for_terminals_only() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(view_for(terminal, quiet=False), Bar)
    assert isinstance(view_for(Console(file=io.StringIO()), quiet=False), Plain)
    assert isinstance(view_for(terminal, quiet=True), Silent)


def test_the_bar_shows_the_stage_and_the_steps() -> None:
    drawn = io.StringIO()
    with Bar(Console(file=drawn, force_terminal=True, width=80)) as bar:
        bar.show(Queued(2, model_loading=False))
        bar.show(Progress(Stage.DENOISE, 3, 4))
    assert "denoising" in drawn.getvalue()
    assert "3/4" in drawn.getvalue()
