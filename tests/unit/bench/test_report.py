"""The page of results, from results made up here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.measured import Estimate, Measured
from bench.report import bars, newest_result, page, results_of
from bench.results_table import keep


def _measured(median: float) -> Measured:
    return Measured(
        goal="G1",
        tier="V",
        metric="goodput W-mix, ours / B3",
        target=2.5,
        at_least=True,
        estimate=Estimate(median, median - 0.5, median + 0.5, 5),
        details={"p99_s": float("inf")},
    )


def _result(folder: Path, median: float) -> dict[str, Any]:
    path = keep([_measured(median)], tiers="v", quick=False, commit="abc", folder=folder)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def test_a_result_is_kept_as_json_without_infinities(tmp_path: Path) -> None:
    (figure,) = _result(tmp_path, 3.0)["figures"]
    assert figure["met"] is True
    assert figure["details"] == {"p99_s": None}


def test_the_page_says_what_is_met_and_what_is_missed(tmp_path: Path) -> None:
    row = "| G1 | goodput W-mix, ours / B3 | ≥ 2.5 | {} | {} |"
    assert row.format("3 (2.5 to 3.5)", "met") in page([_result(tmp_path, 3.0)])
    assert row.format("2 (1.5 to 2.5)", "missed") in page([_result(tmp_path, 2.0)])


def test_a_full_run_is_preferred_to_a_newer_quick_one(tmp_path: Path) -> None:
    keep([_measured(3.0)], tiers="v", quick=False, commit="abc", folder=tmp_path)
    quick = keep([_measured(1.0)], tiers="v", quick=True, commit="abc", folder=tmp_path)
    later = json.loads(quick.read_text()) | {"kept_at": "2999-01-01T00:00:00+00:00"}
    quick.write_text(json.dumps(later))
    found = newest_result(tmp_path, "v")
    assert found is not None
    assert found["quick"] is False
    assert newest_result(tmp_path, "c") is None


def test_what_a_full_run_did_not_get_to_is_shown_of_a_quick_one(tmp_path: Path) -> None:
    other = dataclasses.replace(_measured(1.0), metric="throughput")
    keep([_measured(3.0)], tiers="v", quick=False, commit="abc", folder=tmp_path)
    assert len(results_of(tmp_path, "v")) == 1
    keep([_measured(1.0), other], tiers="v", quick=True, commit="abc", folder=tmp_path)
    full, quick = results_of(tmp_path, "v")
    assert [one["estimate"]["median"] for one in full["figures"]] == [3.0]
    assert [one["metric"] for one in quick["figures"]] == ["throughput"]
    assert results_of(tmp_path, "c") == []


def test_what_a_run_of_some_goals_did_not_measure_is_shown_of_the_one_before(
    tmp_path: Path,
) -> None:
    other = dataclasses.replace(_measured(1.0), metric="throughput")
    for commit, kept_at, changes, measured in (
        ("oldest", "2026-01-01", {}, [_measured(9.0), dataclasses.replace(other, metric="old")]),
        ("whole", "2026-01-02", {}, [_measured(3.0), other]),
        ("some", "2026-01-03", {"is_partial": True}, [_measured(2.0)]),
    ):
        path = keep(measured, tiers="v", quick=False, commit=commit, folder=tmp_path)
        result = json.loads(path.read_text()) | {"kept_at": kept_at} | changes
        path.write_text(json.dumps(result))
    shown = [
        (one["commit"], [figure["metric"] for figure in one["figures"]])
        for one in results_of(tmp_path, "v")
    ]
    assert shown == [("some", ["goodput W-mix, ours / B3"]), ("whole", ["throughput"])]


def test_the_newest_is_told_by_what_the_results_say_not_by_the_times_of_files(
    tmp_path: Path,
) -> None:
    for commit, kept_at in (("later", "2026-01-01T12:00:00"), ("earlier", "2026-01-01T11:00:00")):
        path = keep([_measured(1.0)], tiers="v", quick=False, commit=commit, folder=tmp_path)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"kept_at": kept_at}))
    assert results_of(tmp_path, "v")[0]["commit"] == "later"


@pytest.mark.parametrize(
    ("tier", "changes", "told"),
    [
        pytest.param("C", {}, False, id="the-default"),
        pytest.param("C", {"level": "TOLERANCE"}, True, id="another"),
        pytest.param("C", {"level": None}, True, id="older-than-the-default"),
        pytest.param("V", {"level": None}, False, id="no-server"),
    ],
)
def test_a_section_says_at_which_level_steps_were_shared(
    tmp_path: Path, tier: str, changes: dict[str, str | None], told: bool
) -> None:
    measured = dataclasses.replace(_measured(3.0), tier=tier)
    path = keep([measured], tiers="c", quick=False, commit="abc", folder=tmp_path)
    result = json.loads(path.read_text()) | changes
    result = {name: value for name, value in result.items() if value is not None}
    assert ("Steps were shared at `REPRODUCIBILITY_TOLERANCE`." in page([result])) == told


def test_the_picture_is_well_formed_and_has_a_bar_a_goodput(tmp_path: Path) -> None:
    figures = _result(tmp_path, 3.0)["figures"]
    tree = ElementTree.fromstring(bars([*figures, figures[0] | {"metric": "latency"}]))
    assert len(tree.findall(".//{http://www.w3.org/2000/svg}rect")) == 1


def test_denoisers_are_a_table_of_gains_and_one_of_goals(tmp_path: Path) -> None:
    details = {"model": "m", "denoiser": "openvino", "parameter_count": 2_500_000, "psnr_db": 91.2}
    estimate = Estimate(1.4, 1.3, 1.5, 8)
    measured = [
        Measured(
            goal="D",
            tier="C",
            metric=metric,
            target=target,
            at_least=True,
            estimate=estimate,
            details=details,
        )
        for metric, target in (("images a second, one", None), ("images a second, best", 1.5))
    ]
    path = keep(measured, tiers="d", quick=False, commit="abc", folder=tmp_path)
    text = page([_result(tmp_path, 3.0)], json.loads(path.read_text()))
    assert "| m (2.5 M) | openvino | 1.4 (1.3 to 1.5) | 91 dB |" in text
    assert "| best | ≥ 1.5 | 1.4 (1.3 to 1.5), openvino | missed |" in text


def test_a_latency_of_what_was_never_made_is_told(tmp_path: Path) -> None:
    never = dataclasses.replace(
        _measured(1.0), at_least=False, estimate=Estimate(float("inf"), 0.5, float("inf"), 2)
    )
    path = keep([never], tiers="v", quick=False, commit="abc", folder=tmp_path)
    assert "| infinite (0.5 to infinite) | missed |" in page([json.loads(path.read_text())])


def test_step_costs_are_a_line_for_each_model_and_size(tmp_path: Path) -> None:
    figures = [
        dataclasses.replace(
            _measured(3.0),
            metric=f"{name}, 512 px, eager: rows a second of 8 / of 1",
            details={"step_ms": step_ms, "vae_ms": 24.3, "device": "A GPU"},
        )
        for name, step_ms in (("SDXL", {1: 20.1, 8: 40.0, 16: 75.2}), ("FLUX", {1: 50.0}))
    ]
    path = keep(figures, tiers="g-costs", quick=False, commit="abc", folder=tmp_path)
    text = page([], None, json.loads(path.read_text()))
    assert "at commit abc on one A GPU." in text
    assert "| model | 1 row | 8 rows | 16 rows | VAE |" in text
    assert "| SDXL, 512 px, eager | 20 | 40 | 75 | 24 |" in text
    assert "| FLUX, 512 px, eager | 50 |  |  | 24 |" in text
