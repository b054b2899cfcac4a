"""Writes Grafana's dashboards into dashboards/: python deploy/grafana/make.py"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
#: Grafana's grid is so many columns wide; three panels stand beside each other.
WIDTH, HEIGHT, COLUMN_COUNT = 8, 8, 3


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph. `queries`: PromQL by the legend of its lines."""

    title: str
    unit: str
    queries: dict[str, str]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of graphs. `variable`: the label that is chosen at its top, and the metric with it."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    variable: tuple[str, str] | None = None


def quantiles(metric: str, chosen: str = "", *, by: str = "model") -> dict[str, str]:
    """Median and 99th percentile of a histogram."""
    rate = f"sum by (le, {by}) (rate(darkroom_{metric}_bucket{chosen}[5m]))"
    return {
        f"{name} {{{{{by}}}}}": f"histogram_quantile({q}, {rate})"
        for name, q in (("p50", 0.5), ("p99", 0.99))
    }


def rate(metric: str, by: str, chosen: str = "") -> dict[str, str]:
    """How fast a counter grows."""
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate(darkroom_{metric}{chosen}[5m]))"}


def _batch(chosen: str, by: str) -> dict[str, str]:
    rows = f"sum by ({by}) (rate(darkroom_step_rows_sum{chosen}[5m]))"
    apart = f"sum by ({by}) (rate(darkroom_exact_apart_rows_total{chosen}[5m]))"
    capacity = f"sum by ({by}) (rate(darkroom_step_capacity_rows_total{chosen}[5m]))"
    return {
        f"full {{{{{by}}}}}": f"{rows} / {capacity}",
        f"kept apart {{{{{by}}}}}": f"{apart} / ({apart} + {rows})",
    }


OPERATIONS = Dashboard(
    "operations",
    "Darkroom: operations",
    (
        Panel("Calls", "reqps", rate("requests_total", "code")),
        Panel("Accepted", "reqps", rate("admitted_total", "model")),
        Panel("Turned away", "reqps", rate("refused_total", "reason")),
        Panel("Waiting", "short", {"{{model}}": "sum by (model) (darkroom_queued_requests)"}),
        Panel(
            "Oldest waiting", "s", {"{{model}}": "max by (model) (darkroom_oldest_queued_seconds)"}
        ),
        Panel("Time in the queue", "s", quantiles("queue_seconds")),
        Panel("Late", "reqps", rate("deadline_misses_total", "model")),
        Panel("Megapixels", "short", rate("megapixels_total", "model")),
        Panel(
            "Memory",
            "bytes",
            {"{{model}}/{{version}}": "sum by (model, version) (darkroom_model_memory_bytes)"},
        ),
        Panel("States", "short", {"{{model}}/{{version}} {{state}}": "darkroom_model_state > 0"}),
        Panel(
            "Restarts and swaps",
            "short",
            rate("worker_restarts_total", "model")
            | {"swap {{model}}": "sum by (model) (rate(darkroom_model_swaps_total[5m]))"},
        ),
        Panel("HTTP", "s", quantiles("http_request_seconds", by="route")),
    ),
)
_MODEL = '{model="$model"}'
MODEL = Dashboard(
    "model",
    "Darkroom: one model",
    (
        Panel("Images", "short", rate("images_total", "version", _MODEL)),
        Panel(
            "Stages, mean",
            "s",
            {
                "{{stage}}": f"sum by (stage) (rate(darkroom_stage_seconds_sum{_MODEL}[5m])) / sum by (stage) (rate(darkroom_stage_seconds_count{_MODEL}[5m]))"
            },
        ),
        Panel("Steps", "s", quantiles("step_seconds", _MODEL, by="version")),
        Panel("How full steps are", "percentunit", _batch(_MODEL, "version")),
        Panel("First preview", "s", quantiles("first_preview_seconds", _MODEL, by="version")),
        Panel(
            "Error of the estimate",
            "percentunit",
            quantiles("estimate_error_ratio", _MODEL, by="version"),
        ),
        Panel("From cancel to free", "s", quantiles("cancel_seconds", _MODEL, by="version")),
        Panel(
            "Prompt cache, hits",
            "percentunit",
            {
                "{{version}}": f"sum by (version) (rate(darkroom_prompt_cache_hits_total{_MODEL}[5m])) / (sum by (version) (rate(darkroom_prompt_cache_hits_total{_MODEL}[5m])) + sum by (version) (rate(darkroom_prompt_cache_misses_total{_MODEL}[5m])))"
            },
        ),
        Panel(
            "Compiled again, not compiled",
            "short",
            rate("denoiser_recompiles_total", "version", _MODEL)
            | {
                "uncompiled {{version}}": f"sum by (version) (rate(darkroom_denoiser_uncompiled_steps_total{_MODEL}[5m]))"
            },
        ),
    ),
    ("model", "darkroom_images_total"),
)
KEY = Dashboard(
    "key",
    "Darkroom: one key",
    (
        Panel(
            "Device seconds a second",
            "short",
            rate("device_seconds_total", "model", '{key="$key"}'),
        ),
        Panel(
            "Device seconds in a day",
            "s",
            {
                "{{model}}": 'sum by (model) (increase(darkroom_device_seconds_total{key="$key"}[1d]))'
            },
        ),
        Panel(
            "Its share of all",
            "percentunit",
            {
                "{{key}}": 'sum(rate(darkroom_device_seconds_total{key="$key"}[5m])) / sum(rate(darkroom_device_seconds_total[5m]))'
            },
        ),
    ),
    ("key", "darkroom_device_seconds_total"),
)
DASHBOARDS = (OPERATIONS, MODEL, KEY)


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": index + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": {"type": "prometheus", "uid": "prometheus"},
        "gridPos": {
            "x": index % COLUMN_COUNT * WIDTH,
            "y": index // COLUMN_COUNT * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def rendered(dashboard: Dashboard) -> str:
    """The dashboard as Grafana reads it."""
    variables = []
    if dashboard.variable is not None:
        label, metric = dashboard.variable
        query = f"label_values({metric}, {label})"
        source = {"type": "prometheus", "uid": "prometheus"}
        variables = [
            {"name": label, "type": "query", "datasource": source, "query": query, "refresh": 2}
        ]
    page = {
        "uid": f"darkroom-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["darkroom"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": [_panel(index, panel) for index, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(page, indent=1) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for one in DASHBOARDS:
        (FOLDER / f"{one.name}.json").write_text(rendered(one))
