"""The alerts and the dashboards, before a real Prometheus."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.serving import serving
from darkroom_server.telemetry.metric_list import METRICS, Metric, MetricKind
from darkroom_server.telemetry.metrics import Metrics
from tests.deploy.prometheus_server import exporter, needs_prometheus, prometheus

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
#: What each label has in these tests, where it is not one of a list.
VALUES = {"model": "tiny", "version": "1", "key": "ab12", "code": "OK", "reason": "QUEUE_FULL"}

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
#: What makes each alert fire, and for how long: series as promtool writes them.
CAUSES = {
    "DarkroomDown": {'up{job="darkroom", instance="a"}': "0x20"},
    "DarkroomModelNotServing": {
        'darkroom_model_state{model="m", version="1", state="failed"}': "1x20"
    },
    "DarkroomQueueOld": {'darkroom_oldest_queued_seconds{model="m", version="1"}': "61+60x20"},
    "DarkroomRefusing": {
        'darkroom_refused_total{model="m", reason="QUEUE_FULL"}': "0+6x20",
        'darkroom_admitted_total{model="m", version="1"}': "0+60x20",
    },
    "DarkroomDeadlinesMissed": {
        'darkroom_deadline_misses_total{model="m", version="1"}': "0+2x20",
        'darkroom_admitted_total{model="m", version="1"}': "0+60x20",
    },
    "DarkroomWorkersDie": {'darkroom_worker_restarts_total{model="m", version="1"}': "0+1x20"},
    "DarkroomFailing": {
        'darkroom_requests_total{model="m", code="INTERNAL"}': "0+2x20",
        'darkroom_requests_total{model="m", code="OK"}': "0+60x20",
    },
}
#: The same, as it is when all is well.
WELL = {
    "DarkroomDown": {'up{job="darkroom", instance="a"}': "1x20"},
    "DarkroomModelNotServing": {
        'darkroom_model_state{model="m", version="1", state="failed"}': "0x20",
        'darkroom_model_state{model="m", version="1", state="ready"}': "1x20",
    },
    "DarkroomQueueOld": {'darkroom_oldest_queued_seconds{model="m", version="1"}': "59x20"},
    "DarkroomRefusing": {
        'darkroom_refused_total{model="m", reason="INVALID_PARAMETER"}': "0+6x20",
        'darkroom_admitted_total{model="m", version="1"}': "0+60x20",
    },
    "DarkroomDeadlinesMissed": {
        'darkroom_deadline_misses_total{model="m", version="1"}': "0x20",
        'darkroom_admitted_total{model="m", version="1"}': "0+60x20",
    },
    "DarkroomWorkersDie": {'darkroom_worker_restarts_total{model="m", version="1"}': "1x20"},
    "DarkroomFailing": {'darkroom_requests_total{model="m", code="CANCELLED"}': "0+2x20"},
}


def name_of(alert: dict[str, Any]) -> str:
    return str(alert["alert"])


def names_in(query: str) -> set[str]:
    """Metrics of ours that a query has, without what Prometheus appends."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bdarkroom_\w+", query)
    }


def queries() -> list[Any]:
    return [
        pytest.param(target["expr"], id=f"{page.stem}-{panel['title']}-{target['refId']}")
        for page in DASHBOARDS
        for panel in json.loads(page.read_text())["panels"]
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_has_a_page_that_says_what_to_do(alert: dict[str, Any]) -> None:
    page = (ROOT / alert["annotations"]["runbook"]).read_text()
    assert page.startswith(f"# {alert['alert']}\n")
    for head in ("## What it means", "## What to look at", "## What to do"):
        assert head in page


@pytest.mark.parametrize("alert", ALERTS, ids=name_of)
def test_an_alert_asks_for_metrics_that_there_are(alert: dict[str, Any]) -> None:
    assert names_in(alert["expr"]) <= {metric.name for metric in METRICS}


@pytest.mark.parametrize("query", queries())
def test_a_dashboard_asks_for_metrics_that_there_are(query: str) -> None:
    assert names_in(query)
    assert names_in(query) <= {metric.name for metric in METRICS}


def test_the_dashboards_are_those_of_their_description() -> None:
    before = {page: page.read_text() for page in DASHBOARDS}
    assert {page.stem for page in before} == {"operations", "model", "key"}
    from deploy.grafana.make import DASHBOARDS as described
    from deploy.grafana.make import rendered

    assert {one.name: rendered(one) for one in described} == {
        page.stem: text for page, text in before.items()
    }


@needs_prometheus
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    folder = RULES.parent
    subprocess.run(["promtool", "check", "config", str(folder / "prometheus.yml")], check=True)


@needs_prometheus
def test_each_alert_fires_for_its_cause_and_not_when_all_is_well(tmp_path: Path) -> None:
    assert set(CAUSES) == set(WELL) == {name_of(alert) for alert in ALERTS}
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    cases = []
    for series, is_firing in ((CAUSES, True), (WELL, False)):
        for name, values in series.items():
            checks = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
            expected = [{"labels": "{}", "value": 1}] if is_firing else []
            cases.append(
                {
                    "interval": "1m",
                    "input_series": [{"series": one, "values": v} for one, v in values.items()],
                    "promql_expr_test": [
                        {"expr": checks, "eval_time": "19m", "exp_samples": expected}
                    ],
                }
            )
    tests = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "tests.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_a_prometheus_with_the_rules_fires_when_a_model_fails(tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "0s"
    metrics = Metrics()
    metrics.introduce_version(("tiny", "1"))
    for metric in METRICS:
        if metric.name == "darkroom_model_state":
            metrics.set(metric, ("tiny", "1", "failed"), 1)
    with (
        exporter(lambda: metrics.render("")[0]) as port,
        prometheus(tmp_path, port, rules=yaml.safe_dump(rules)) as server,
    ):
        firing = server.until(
            lambda: [one for one in server.get("alerts")["alerts"] if one["state"] == "firing"]
        )
    (alert,) = firing
    assert alert["labels"]["alertname"] == "DarkroomModelNotServing"
    assert alert["labels"]["model"] == "tiny"
    assert alert["annotations"]["summary"] == "tiny/1 does not serve"


@needs_prometheus
def test_an_alert_fires_when_a_server_is_gone(tmp_path: Path) -> None:
    """A server's own page, scraped by a real Prometheus with the rules, then nobody there."""
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = "0s"
    (tmp_path / "models" / "good" / "1").mkdir(parents=True)
    (tmp_path / "models" / "good" / "config.pbtxt").write_text("backend: BACKEND_FAKE")
    with serving(tmp_path / "models") as served:
        served.until("model", state="ready")
        port = served.until("listening")["http_port"]
        with prometheus(tmp_path, port, rules=yaml.safe_dump(rules)) as server:
            # What the dashboards ask for is there from the start, at zero.
            query = 'darkroom_steps_total{model="good"}'
            (found,) = server.until(lambda: server.get("query", query=query)["result"])
            assert found["value"][1] == "0"
            served.signal_all(signal.SIGKILL)
            firing = server.until(
                lambda: [one for one in server.get("alerts")["alerts"] if one["state"] == "firing"]
            )
    assert {one["labels"]["alertname"] for one in firing} == {"DarkroomDown"}


def series_of(metric: Metric) -> list[tuple[str, ...]]:
    """One series of a metric for each value of its last label."""
    head = tuple(VALUES.get(label, "one") for label in metric.labels)
    return [(*head[:-1], value) for value in metric.values] or [head]


def move(metrics: Metrics) -> None:
    """Moves every metric there is."""
    for metric in METRICS:
        for labels in series_of(metric):
            match metric.kind:
                case MetricKind.COUNTER:
                    metrics.count(metric, labels)
                case MetricKind.GAUGE:
                    metrics.set(metric, labels, 1)
                case MetricKind.HISTOGRAM:
                    metrics.observe(metric, labels, 0.01)


@needs_prometheus
def test_every_query_of_the_dashboards_has_an_answer(tmp_path: Path) -> None:
    metrics = Metrics()

    def render() -> bytes:
        move(metrics)
        return metrics.render("")[0]

    left = {
        target["expr"].replace("$model", VALUES["model"]).replace("$key", VALUES["key"])
        for page in DASHBOARDS
        for panel in json.loads(page.read_text())["panels"]
        for target in panel["targets"]
    }
    with exporter(render) as port, prometheus(tmp_path, port) as server:

        def answered() -> bool:
            for query in sorted(left):
                if server.get("query", query=query)["result"]:
                    left.discard(query)
            return not left

        server.until(answered)
