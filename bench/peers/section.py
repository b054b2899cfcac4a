"""The section of docs/performance.md about the peers: systems side by side, who is ahead, goals."""

from __future__ import annotations

from typing import Any

_INTRODUCTION = """\
## Beside other servers

The embedded SDXL pipeline, served by alternatives to Darkroom, each in its own environment with
its batching enabled and requests of equal parameters grouped (`make bench-peers`; the servers are
in `bench/peers`): a loop around diffusers behind FastAPI, LitServe, Ray Serve with
`@serve.batch`, BentoML, and Triton through nvidia-pytriton. One driver sends the same seeded
requests to each of them alternately; every server computes with one thread. Darkroom has its
default level. The best value of a row is bold.
"""

#: Why a peer may be ahead, by the beginning of what was measured.
_WHY = {
    "cold start": "Darkroom starts a worker beside the server, and checks the files.",
    "memory": "Darkroom has a server, a process that starts workers and the worker.",
    "idle latency": "A request passes two processes, and its image is sent in chunks.",
}


def section(result: dict[str, Any], figure: Any) -> list[str]:
    """Its lines; `figure` writes an estimate."""
    rows: dict[str, dict[str, Any]] = {}
    goals = []
    for one in result["figures"]:
        if "measure" in one["details"]:
            rows.setdefault(one["details"]["measure"], {})[one["details"]["system"]] = one
        else:
            goals.append(one)
    systems = list(dict.fromkeys(name for found in rows.values() for name in found))
    lines = [
        _INTRODUCTION,
        _when(result),
        "",
        f"| | {' | '.join(systems)} |",
        "|---" * (len(systems) + 1) + "|",
    ]
    why = []
    for measure, found in rows.items():
        best = _best(found)
        cells = [_cell(found.get(name), name == best, figure) for name in systems]
        unit = next(iter(found.values()))["details"]["unit"]
        lines.append(f"| {measure}{', ' + unit if unit else ''} | {' | '.join(cells)} |")
        if best not in (None, "darkroom"):
            why += [
                f"- {measure}: {text}"
                for start, text in _WHY.items()
                if measure[: len(start)] == start
            ]
    lines += ["", "| goal | target | measured | |", "|---|---|---|---|"]
    lines += [_goal(one, figure) for one in goals]
    if why:
        lines += ["", "Where a peer is ahead:", "", *why]
    return lines


def _when(result: dict[str, Any]) -> str:
    quick = ", a quick run" if result["quick"] else ""
    note = f" {result['note']}" if "note" in result else ""
    return f"Measured on {result['date']} at commit {result['commit']}{quick}.{note}"


def _best(found: dict[str, Any]) -> str | None:
    """Who leads by the median, where it is a contest and there is one leader."""
    medians = {name: one["estimate"]["median"] for name, one in found.items() if one["estimate"]}
    first = next(iter(found.values()))["details"]["more_is_better"]
    if first is None or not medians or len(set(medians.values())) == 1:
        return None
    return (max if first else min)(medians, key=lambda name: medians[name])


def _cell(one: dict[str, Any] | None, is_best: bool, figure: Any) -> str:
    text = figure(one["estimate"]) if one else ""
    return f"**{text}**" if is_best else text


def _goal(one: dict[str, Any], figure: Any) -> str:
    sign = "≥" if one["at_least"] else "≤"
    target = "" if one["target"] is None else f"{sign} {one['target']:g}"
    best = one["details"].get("best_peer")
    by = f", {best}" if best else ""
    verdict = {True: "met", False: "missed", None: ""}[one["met"]]
    return f"| {one['metric']} | {target} | {figure(one['estimate'])}{by} | {verdict} |"
