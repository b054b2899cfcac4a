"""`make bench-report`: docs/performance.md, drawn from the newest results of each tier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peers.section import section as peers_section
from bench.results_table import DEFAULT_LEVEL, OLDER_LEVEL, RESULTS, ROOT

PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "pictures" / "goodput.svg"

_INTRODUCTION = """\
# Performance

Written by `make bench-report` from `bench/results/`; not edited by hand. `make bench` measures
(`ARGS="--tier v"` or `--tier c` for one tier, `--quick` for a rougher figure), and
`make bench-denoisers` and `make bench-gpu` the last tables.

Tier V plays seeded requests through the service's own scheduler on a virtual device: a table of
step costs. It says what the scheduling is worth, not how fast a machine is. Its devices gain
three times (unsaturated) and 1.1 times (saturated) the throughput from eight rows. Tier C runs
the real server against the stock pipeline on CPU cores with the embedded model. Tier G does on
one GPU, with full-size models of random weights (`make bench-gpu`), and tier VG plays tier V on
the step costs measured there.

A section says at which level of [exactness](exactness.md) its server shared steps, where that is
not the default; lines with "solo" are of a level that is gone, and shared none.

- **Goodput**: requests a second that meet their deadline, at the highest load at which 90% meet
  five times the isolated latency of their class. The lines with 99% within 10x and 90% within 10
  s show how far the ratio hangs on that choice.
- **Workloads.** W-mix: 4, 20 or 50 steps (40, 40 and 20%), no guidance, 5 or 7.5 (25, 45 and 30%),
  the Euler, DPM-Solver++ or ancestral Euler scheduler (60, 25 and 15%), one size, arrivals
  of a Poisson process. Each other one differs from it in one thing: W-size has four sizes, W-homog
  one kind of request (20 steps, guidance 5, Euler), W-burst gaps that vary three times as much,
  W-session users who stay with a prompt, W-cancel callers of whom 15% hang up, W-over 1.5 times
  the load that is sustained.
- **Goals.** G1 goodput at a size where more rows pay, G2 where they pay little, G3 the tail of
  short requests, G4 latency and throughput against the bare pipeline, G5 refusals and estimates, G6
  previews, G7 cancelling, G9 what scheduling and memory cost, G10 exactness and its price.
- **B0** a plain pipeline loop, **B1** first come first served, **B2** batches of equal parameters
  (batch and delay tuned by a sweep on seeds of their own), **B3** shortest job first with such
  batches.
- **Sustaining nothing**: a system that cannot keep the objective at a hundredth of the one-by-one
  load has no goodput, and no ratio is given.
- **0.7 load**: arrivals a second times the mean isolated latency is 0.7.
- G2 is played on tier V alone: at a saturated size one playing on two cores takes most of an hour.
- **Saturated** in tier C is 256 px where a batch gains little there, else 384 px: it depends on the
  processor that measures.
- The interval is the 95% bootstrap interval of the median over seeds (tier V) or rounds (tier C).
  A goal is met when the median meets it.
"""

_DENOISERS = """\
## Denoisers

Images a second by each [denoiser](denoisers.md) over the same model's by torch's eager one, in one
run on two processor cores: eight requests that all wait, in batches of up to eight rows, from
prompt to pixels. The `wide` models are the embedded ones with a widened random denoiser. PSNR is of
one request's picture against torch in FP32.
"""

_COSTS = """\
## Step costs on a GPU

Full-size models with random weights in bfloat16 (`make bench-gpu`): milliseconds of a denoising
step by rows, and of the VAE. Where more rows take no more time, the processor takes it, launching
the GPU's kernels one by one, and unevenly: more rows are then as good as free.

Not reached on a GPU so far, for want of time on one: compiled steps, FLUX at 1024 px, and on the
real server G1, G3, throughput, previews and memory. `make bench-gpu` measures them.
"""

_VERDICTS = {True: "met", False: "missed", None: ""}

#: Why a goal is missed, by the beginning of its metric.
_CAUSES = {
    "throughput at 64 px": (
        "The rounds differ by more than what is missing. In the process of the pipeline, without a "
        "server, the worker's loop takes 1.05 times its processor time for the 48 images (2.17 s "
        "against 2.07, 12 rounds): it takes the step of each image's own scheduler one by one (5%) "
        "and decodes images one by one (5%), and spares encoding the text (3%). Steps are as full "
        "as they can be (61 where 60 are the fewest). The rest is the server and the callers, on "
        "the same two cores."
    ),
    "time to first preview, every 5 steps": (
        "A caller who asks for a preview every five steps waits for five, 0.10 to 0.12 s, and B2's "
        "image is there in the median after 0.63 s in one round (and 1.7 s in the other). Asked "
        "for at every step it is met."
    ),
    "throughput cost of previews, every step, 384 px": (
        "Six rounds that differ by five times what is asked for; two earlier runs "
        "gave 0.018 and 0.029."
    ),
    "throughput cost of previews": (
        "Steps are short at this size, 1 to 2 ms an image, and every preview is a message that the "
        "server and the client, on the same two cores, handle one by one."
    ),
    "goodput W-mix, saturated, solo / default": (
        "On this GPU 1024 px do not saturate an eager step: eight rows make three times the rows a "
        "second of one, and solo mode shares none."
    ),
    "idle latency at 512 px": (
        "Six pairs on a machine whose processor launched the GPU's kernels unevenly: the interval "
        "says nothing yet."
    ),
    "jobs done within the time told": (
        "By less than the seeds differ. The time is learnt from what ended before, so that the "
        "first of each run are told it untaught, and these runs are short."
    ),
    "p95 error of the estimate": (
        "A long job waits for what comes within seconds after it, and how much that is varies by "
        "as much as the error. To expect less of what comes (0.9 to 1.1 of it, and not 1.2) makes "
        "it no smaller, 0.33 to 0.36 ([ADR 8](adr/0008-admission-and-order.md)). On the GPU's step "
        "costs, where eight rows were measured to be quicker than four, it is larger still."
    ),
}


def main() -> None:
    """Writes the page and its picture."""
    tiers = ("v", "vg", "c", "g-serving")
    newest = [found for tier in tiers for found in results_of(RESULTS, tier)]
    denoisers, costs = newest_result(RESULTS, "d"), newest_result(RESULTS, "g-costs")
    peers = newest_result(RESULTS, "peers")
    PAGE.write_text(page(newest, denoisers, costs, peers), encoding="utf-8")
    figures = [one for result in newest for one in result["figures"]]
    PICTURE.write_text(bars(figures), encoding="utf-8")
    print(f"-> {PAGE}, {PICTURE}")


def newest_result(folder: Path, tier: str) -> dict[str, Any] | None:
    """The last written result of a tier; one of a quick run only where there is no other."""
    full = sorted(folder.glob(f"*-tier-{tier}.json"), key=_age)
    quick = sorted(folder.glob(f"*-tier-{tier}-quick.json"), key=_age)
    found = full or quick
    if not found:
        return None
    result: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
    return result


def results_of(folder: Path, tier: str) -> list[dict[str, Any]]:
    """The newest result; of earlier ones what one that is in part did not measure, and of the
    newest quick one what none did.
    """
    full = sorted(folder.glob(f"*-tier-{tier}.json"), key=_age, reverse=True)
    quick = sorted(folder.glob(f"*-tier-{tier}-quick.json"), key=_age, reverse=True)
    found: list[dict[str, Any]] = []
    known: set[str] = set()
    for path in [*full, *quick[:1]]:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found and path in full and not found[-1].get("is_partial", False):
            continue
        result["figures"] = [one for one in result["figures"] if one["metric"] not in known]
        known |= {one["metric"] for one in result["figures"]}
        if result["figures"]:
            found.append(result)
    return found


def _age(path: Path) -> str:
    """When it was kept, by its own word: a checkout keeps no times of files."""
    result = json.loads(path.read_text(encoding="utf-8"))
    kept_at: str = result.get("kept_at", result["date"])
    return kept_at


def page(
    results: list[dict[str, Any]],
    denoisers: dict[str, Any] | None = None,
    costs: dict[str, Any] | None = None,
    peers: dict[str, Any] | None = None,
) -> str:
    """The text of the page: for each tier, beside other servers, of denoisers, and of a GPU."""
    parts = [_INTRODUCTION, "![Goodput against the baselines](pictures/goodput.svg)\n"]
    for result in results:
        parts.append(f"## Tier {result['figures'][0]['tier']}\n\n{_when(result)}{_level(result)}\n")
        parts.append(
            "| goal | metric | target | measured (95% interval) | |\n|---|---|---|---|---|"
        )
        parts += [_row(one) for one in result["figures"]]
        parts[-1] += "\n"
        missed = [one["metric"] for one in result["figures"] if one["met"] is False]
        causes = [
            f"- {beginning}: {cause}"
            for beginning, cause in _CAUSES.items()
            if any(metric.startswith(beginning) for metric in missed)
        ]
        if causes:
            parts.append("Why goals are missed:\n")
            parts += [*causes[:-1], causes[-1] + "\n"]
    if peers is not None:
        parts += [*peers_section(peers, _figure), ""]
    if denoisers is not None:
        parts += [*_denoiser_section(denoisers), ""]
    if costs is not None:
        parts += _cost_section(costs)
    return "\n".join(parts).rstrip() + "\n"


def _when(result: dict[str, Any]) -> str:
    quick = ", a quick run" if result["quick"] else ""
    note = f" {result['note']}" if "note" in result else ""
    return f"Measured on {result['date']} at commit {result['commit']}{quick}.{note}"


def _level(result: dict[str, Any]) -> str:
    """At which level a server that was measured shared steps, unless it is the default.

    The virtual one shares every step whatever the level.
    """
    is_served = any(one["tier"] in ("C", "G") for one in result["figures"])
    level = result.get("level", OLDER_LEVEL)
    if not is_served or level == DEFAULT_LEVEL:
        return ""
    return f" Steps were shared at `REPRODUCIBILITY_{level}`."


def _denoiser_section(result: dict[str, Any]) -> list[str]:
    """What each denoiser gains, and the goals."""
    goals = [one for one in result["figures"] if one["target"] is not None]
    others = [one for one in result["figures"] if one["target"] is None]
    lines = [
        _DENOISERS,
        _when(result),
        "",
        "| model | denoiser | gain | PSNR |",
        "|---|---|---|---|",
    ]
    for one in others:
        found = one["details"]
        size = f"{found['parameter_count'] / 1e6:.1f} M"
        lines.append(
            f"| {found['model']} ({size}) | {found['denoiser']} | {_figure(one['estimate'])} "
            f"| {found['psnr_db']:.0f} dB |"
        )
    lines += ["", "| goal | target | measured | |", "|---|---|---|---|"]
    for one in goals:
        by = f", {one['details']['denoiser']}" if one["details"] else ""
        lines.append(
            f"| {one['metric'].removeprefix('images a second, ')} | ≥ {one['target']:g} "
            f"| {_figure(one['estimate'])}{by} | {_VERDICTS[one['met']]} |"
        )
    return lines


def _cost_section(result: dict[str, Any]) -> list[str]:
    """A line for each model and size."""
    details = [one["details"] for one in result["figures"]]
    counts = sorted({int(rows) for one in details for rows in one["step_ms"]})
    heads = [f"{count} rows" if count > 1 else "1 row" for count in counts]
    lines = [
        _COSTS,
        f"{_when(result)[:-1]} on one {details[0]['device']}.",
        "",
        f"| model | {' | '.join(heads)} | VAE |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for one in result["figures"]:
        steps_ms = one["details"]["step_ms"]
        cells = [
            f"{steps_ms[key]:.0f}" if (key := str(count)) in steps_ms else "" for count in counts
        ]
        name = one["metric"].partition(":")[0]
        lines.append(f"| {name} | {' | '.join(cells)} | {one['details']['vae_ms']:.0f} |")
    return lines


def _row(one: dict[str, Any]) -> str:
    sign = "≥" if one["at_least"] else "≤"
    target = "" if one["target"] is None else f"{sign} {one['target']:g}"
    idle = [name for name, found in one["details"].items() if _sustains_nothing(found)]
    measured = _figure(one["estimate"])
    if one["estimate"] is None and idle:
        measured = f"{' and '.join(idle)} sustain nothing"
    verdict = _VERDICTS[one["met"]]
    return f"| {one['goal']} | {one['metric']} | {target} | {measured} | {verdict} |"


def _sustains_nothing(found: Any) -> bool:
    return isinstance(found, dict) and found.get("sustained_seed_count") == 0


def _figure(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return "not measured"
    low, median, high = (_number(estimate[name]) for name in ("low", "median", "high"))
    return f"{median} ({low} to {high})" if estimate["count"] > 1 else median


def _number(value: float | None) -> str:
    """JSON has no infinity, which a latency is when a request was not made."""
    return "infinite" if value is None else f"{value:.3g}"


def bars(figures: list[dict[str, Any]]) -> str:
    """Goodput ratios as bars with their intervals; a mark where the target is."""
    shown = [one for one in figures if "goodput" in one["metric"] and one["estimate"]]
    widest = max((one["estimate"]["high"] for one in shown), default=1.0)
    px_per_one, row_px, left_px = 300 / widest, 24, 400
    lines = []
    for row, one in enumerate(shown):
        top, found = row * row_px + 6, one["estimate"]
        low, high = (left_px + found[end] * px_per_one for end in ("low", "high"))
        width = found["median"] * px_per_one
        label = f"{one['tier']}: {one['metric'].removeprefix('goodput ')}"
        lines.append(f'<text x="4" y="{top + 12}">{label}</text>')
        lines.append(f'<rect x="{left_px}" y="{top}" width="{width:.0f}" height="14"/>')
        lines.append(f'<path d="M{low:.0f} {top + 7}H{high:.0f}" stroke="#222"/>')
        if one["target"] is not None:
            at = left_px + one["target"] * px_per_one
            lines.append(f'<path d="M{at:.0f} {top - 3}v20" stroke="#c22" stroke-width="2"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left_px + 320}" '
        f'height="{len(shown) * row_px + 10}" font-family="sans-serif" font-size="12" '
        f'fill="#5b8fc9"><g>{chr(10).join(lines)}</g></svg>\n'
    ).replace("<text", '<text fill="#222"')


if __name__ == "__main__":
    main()
