"""The table of goals that `make bench` prints, and the JSON that it keeps."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measured import Measured

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"

#: At which servers of the bench share steps, and did before a result said so.
DEFAULT_LEVEL, OLDER_LEVEL = "EXACT", "TOLERANCE"

_VERDICTS = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


def show(measured: Sequence[Measured]) -> None:
    """Prints one line a figure."""
    table = Table("goal", "tier", "metric", "target", "measured (95% interval)", "")
    for one in measured:
        target = "" if one.target is None else f"{'≥' if one.at_least else '≤'} {one.target:g}"
        verdict = _VERDICTS[one.met]
        table.add_row(one.goal, one.tier, one.metric, target, figure(one), verdict)
    Console().print(table)


def figure(one: Measured) -> str:
    """The median and its interval, as text."""
    if one.estimate is None:
        return "not measured"
    found = one.estimate
    if found.count == 1:
        return f"{found.median:.3g} (once)"
    return f"{found.median:.3g} ({found.low:.3g} to {found.high:.3g})"


def keep(
    measured: Sequence[Measured],
    *,
    tiers: str,
    quick: bool,
    commit: str,
    is_partial: bool = False,
    folder: Path = RESULTS,
    note: str | None = None,
) -> Path:
    """Writes `<date>-<commit>-<machine>.json`; a quick run says so in its name."""
    now = datetime.datetime.now(tz=datetime.UTC)
    today = now.date()
    machine = f"{platform.machine()}-tier-{tiers}" + ("-quick" if quick else "")
    target = folder / f"{today}-{commit}-{machine}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "date": str(today),
        "kept_at": now.isoformat(timespec="seconds"),
        "commit": commit,
        "machine": platform.machine(),
        "quick": quick,
        "is_partial": is_partial,
        "level": DEFAULT_LEVEL,
        "figures": [dataclasses.asdict(one) | {"met": one.met} for one in measured],
    }
    if note is not None:
        document["note"] = note
    target.write_text(json.dumps(_finite(document), indent=1) + "\n", encoding="utf-8")
    return target


def commit_now() -> str:
    """Short name of the commit that is checked out, with a plus where files differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def _finite(value: Any) -> Any:
    """The same with null for infinite latencies: JSON has no infinity."""
    match value:
        case dict():
            return {str(key): _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
