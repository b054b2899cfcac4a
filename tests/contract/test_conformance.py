"""The cases that every client runs: the Python client passes them, and a wrong one would not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clients.conformance.cases import Case, judge, load_cases, write_repository
from clients.conformance.languages import LANGUAGES
from clients.conformance.trial import try_cases
from darkroom_server.wire.status import ERROR_KINDS

CASES = load_cases()
RIGHT: dict[str, Any] = {
    "events": ["accepted", "queued", "progress", "progress", "image", "completed"],
    "warnings": [],
    "images": [
        {"image_index": 0, "seed": "7", "width_px": 64, "height_px": 48, "media_type": "image/png"}
    ],
    "models": [],
    "cancelled": False,
}
REFUSED: dict[str, Any] = {
    "events": [],
    "warnings": [],
    "images": [],
    "models": [],
    "cancelled": False,
    "error": {
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_PARAMETER",
        "fields": ["prompt"],
        "kind": "InvalidRequest",
    },
}


def named(name: str) -> Case:
    [case] = [case for case in CASES if case.name == name]
    return case


def judged(name: str, report: dict[str, Any] | None, folder: Path, value: int = 11) -> list[str]:
    case = named(name)
    Image.new("RGB", (64, 48), (value,) * 3).save(folder / f"{case.index}-0", "PNG")
    return judge(case, report, folder)


def test_the_python_client_passes_every_case() -> None:
    [trial] = try_cases([each for each in LANGUAGES if each.name == "python"])
    assert {name: faults for name, faults in trial.faults.items() if faults} == {}
    assert len(trial.faults) == len(CASES)


def test_the_cases_have_names_of_their_own_and_reasons_that_exist(tmp_path: Path) -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    reasons = {case.expect["error"].get("reason", "") for case in CASES if "error" in case.expect}
    assert reasons - {""} <= {kind.reason for kind in ERROR_KINDS.values()}
    write_repository(tmp_path)
    models = {folder.name for folder in tmp_path.iterdir()}
    asked = {case.request["model"] for case in CASES if "model" in case.request}
    assert asked - models == {"nothing", "models/anything"}


def test_a_right_report_is_right(tmp_path: Path) -> None:
    assert judged("one picture", RIGHT, tmp_path) == []
    assert judged("no prompt", REFUSED, tmp_path) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({"events": ["image", "accepted", "completed"]}, "events", id="order"),
        pytest.param({"events": ["accepted", "image", "image", "completed"]}, "events", id="twice"),
        pytest.param({"events": ["accepted", "image"]}, "events", id="no-end"),
        pytest.param({"warnings": ["DIMENSION_ROUNDED width_px"]}, "warnings", id="warning"),
        pytest.param({"images": []}, "image count", id="no-image"),
        pytest.param({"images": [RIGHT["images"][0] | {"seed": "8"}]}, "image:", id="seed"),
        pytest.param({"models": ["models/anything"]}, "models", id="models"),
        pytest.param({"cancelled": True}, "cancelled", id="cancelled"),
        pytest.param({"error": REFUSED["error"]}, "error", id="error"),
    ],
)
def test_a_wrong_report_is_told(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    [found] = judged("one picture", RIGHT | change, tmp_path)
    assert found.startswith(fault)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "INTERNAL"},
        {"reason": "WRONG_TASK"},
        {"fields": []},
        {"fields": ["prompt", "seed"]},
        {"kind": "ServerError"},
    ],
    ids=json.dumps,
)
def test_a_wrong_error_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    report = REFUSED | {"error": REFUSED["error"] | change}
    assert len(judged("no prompt", report, tmp_path)) == 1


def test_an_error_may_lack_its_kind_or_its_code_but_not_both(tmp_path: Path) -> None:
    error = REFUSED["error"]
    for lacking in ({"kind"}, {"code"}, {"kind", "code"}):
        report = REFUSED | {"error": {k: v for k, v in error.items() if k not in lacking}}
        assert bool(judged("no prompt", report, tmp_path)) == (len(lacking) == 2)


def test_a_picture_with_other_pixels_or_without_a_file_is_told(tmp_path: Path) -> None:
    assert len(judged("one picture", RIGHT, tmp_path, value=12)) == 2
    assert judge(named("one picture"), RIGHT, tmp_path / "nowhere") == ["image: not written"]


def test_no_report_is_told(tmp_path: Path) -> None:
    assert judged("one picture", None, tmp_path) == ["no report"]
