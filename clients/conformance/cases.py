"""The cases of `cases.json`, and what is wrong with a client's report of one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

FILE = Path(__file__).with_name("cases.json")

#: Events that a server may leave out or repeat: only looked at where a case asks for them.
DROPPABLE_EVENTS = frozenset({"queued", "progress", "preview"})
#: A client has kinds of errors, or gRPC's codes where it is generated code alone, or both.
ERROR_NAMES = frozenset({"kind", "code"})
#: JPEG does not keep pixels exactly.
LOSSY_TOLERANCE = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what must come of it, both as they are in the file."""

    index: int
    name: str
    method: str
    request: dict[str, Any]
    expect: dict[str, Any]
    timeout_s: float = 60.0
    cancel_after: str = ""
    server: str = "served"


def load_cases(file: Path = FILE) -> list[Case]:
    """All cases, in order."""
    return [Case(index, **case) for index, case in enumerate(json.loads(file.read_text())["cases"])]


def write_repository(folder: Path, file: Path = FILE) -> None:
    """The models that the cases are served by."""
    for name, lines in json.loads(file.read_text())["models"].items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text("\n".join(lines) + "\n")


def judge(case: Case, report: dict[str, Any] | None, pictures: Path) -> list[str]:
    """What is wrong with a report; nothing when the client did as it must.

    `pictures` is the folder with the client's images, each named `<case>-<image>`.
    """
    if report is None:
        return ["no report"]
    expect = case.expect
    faults = _differing("cancelled", expect.get("cancelled", False), report["cancelled"])
    faults += _error_faults(expect.get("error"), report.get("error"))
    if "events" in expect:
        faults += _differing("events", expect["events"], _without_optional(expect, report))
    faults += _differing("warnings", expect.get("warnings", []), report["warnings"])
    faults += _differing("models", expect.get("models", []), report["models"])
    wanted, made = expect.get("images", []), report["images"]
    faults += _differing("image count", len(wanted), len(made))
    for image, announced in zip(wanted, made, strict=False):
        faults += _picture_faults(
            image, announced, pictures / f"{case.index}-{image['image_index']}"
        )
    return faults


def _without_optional(expect: dict[str, Any], report: dict[str, Any]) -> list[str]:
    skipped = DROPPABLE_EVENTS - set(expect["events"])
    kept: list[str] = []
    for event in report["events"]:
        repeated = event in DROPPABLE_EVENTS and kept[-1:] == [event]
        if event not in skipped and not repeated:
            kept.append(event)
    return kept


def _error_faults(wanted: dict[str, Any] | None, got: dict[str, Any] | None) -> list[str]:
    if wanted is None or got is None:
        return _differing("error", wanted, got)
    faults = [] if got.keys() & ERROR_NAMES else ["error: neither its kind nor its code is told"]
    for key, value in wanted.items():
        if key not in ERROR_NAMES or key in got:
            faults += _differing(key, value, got.get(key))
    return faults


def _picture_faults(wanted: dict[str, Any], announced: dict[str, Any], file: Path) -> list[str]:
    keys = ("image_index", "seed", "width_px", "height_px", "media_type")
    faults = _differing("image", {k: wanted[k] for k in keys}, {k: announced.get(k) for k in keys})
    if not file.exists():
        return [*faults, "image: not written"]
    if file.stat().st_size < wanted.get("min_size_bytes", 0):
        faults.append(f"image: {file.stat().st_size} bytes are too few to try chunks")
    with Image.open(file) as opened:
        faults += _differing("file's type", wanted["media_type"], opened.get_format_mimetype())
        size = (wanted["width_px"], wanted["height_px"])
        faults += _differing("file's size", size, opened.size)
        picture = opened.convert("RGB")
    tolerance = LOSSY_TOLERANCE if wanted["media_type"] == "image/jpeg" else 0
    for pixel in wanted.get("pixels", []):
        x, y = pixel["at"]
        found = picture.getpixel((x, y))
        assert isinstance(found, tuple)
        if any(abs(a - b) > tolerance for a, b in zip(found, pixel["rgb"], strict=True)):
            faults.append(f"pixel {x},{y}: {pixel['rgb']} expected, {list(found)} came")
    return faults


def _differing(what: str, wanted: object, got: object) -> list[str]:
    return [] if wanted == got else [f"{what}: {wanted!r} expected, {got!r} came"]
