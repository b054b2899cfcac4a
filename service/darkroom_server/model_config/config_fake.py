"""The `fake` block of a config: how long the backend of tests takes."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.v1 import model_config_pb2
from darkroom_server.domain.fake_pace import FakePace

MAX_FAKE_S = 3600.0
_MAX_PIXEL_COUNT = 1 << 40
#: Where a value stands, the value, and its least and greatest.
Bounded = tuple[tuple[str, ...], float, tuple[float, float]]


def fake_pace(message: model_config_pb2.FakeBackend) -> FakePace:
    """What it says."""
    return FakePace(
        step_s=message.step_s,
        load_s=message.load_s,
        step_s_by_rows=tuple(sorted(message.step_s_by_rows.items())),
        image_s=message.image_s,
        pixel_count=message.pixel_count,
    )


def fake_ranges(pace: FakePace) -> Iterator[Bounded]:
    """Every value with what it may be."""
    for name in ("step_s", "load_s", "image_s"):
        yield ("fake", name), getattr(pace, name), (0, MAX_FAKE_S)
    yield ("fake", "pixel_count"), pace.pixel_count, (0, _MAX_PIXEL_COUNT)
    for rows, step_s in pace.step_s_by_rows:
        yield ("fake", "step_s_by_rows"), step_s, (0, MAX_FAKE_S)
        if rows < 1:
            yield ("fake", "step_s_by_rows"), rows, (1, MAX_FAKE_S)
