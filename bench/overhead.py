"""What the idle service adds to the pipeline it runs: latency over gRPC / latency called directly.

A pair is one request to the service and the same picture by the stock pipeline in this process,
with as many threads; pairs alternate which goes first. Reported is the median of the pairs' ratios
with a bootstrap confidence interval.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from rich.progress import track

from darkroom_client import Client

PROMPT = "a red circle on a blue background"
STEPS, GUIDANCE = 20, 2.5


def _timed_s(work: Callable[[int], Any], seed: int) -> float:
    started_s = time.perf_counter()
    work(seed)
    return time.perf_counter() - started_s


def interval(ratios: list[float], *, rounds: int = 2000) -> tuple[float, float]:
    """95% bootstrap interval of the median."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(rounds))
    return medians[int(0.025 * rounds)], medians[int(0.975 * rounds)]


def measure(client: Client, version: Path, *, threads: int, pairs: int) -> dict[str, Any]:
    """Alternating pairs; the service must run with the same thread count and be idle."""
    torch.set_num_threads(threads)
    pipeline = StableDiffusionXLPipeline.from_pretrained(version, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def direct(seed: int) -> None:
        generator = torch.Generator("cpu").manual_seed(seed)
        pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=generator)

    def served(seed: int) -> None:
        client.generate(PROMPT, steps=STEPS, guidance_scale=GUIDANCE, seed=seed)

    for seed in range(2):  # warm both
        direct(seed)
        served(seed)
    ratios, direct_s, served_s = [], [], []
    for seed in track(range(pairs), description="pairs"):
        if seed % 2:
            a = _timed_s(direct, seed)
            b = _timed_s(served, seed)
        else:
            b = _timed_s(served, seed)
            a = _timed_s(direct, seed)
        direct_s.append(a)
        served_s.append(b)
        ratios.append(b / a)
    low, high = interval(ratios)
    return {
        "what": "latency of Generate over gRPC / the stock pipeline called directly, idle",
        "pairs": pairs,
        "threads": threads,
        "steps": STEPS,
        "direct_median_s": round(statistics.median(direct_s), 4),
        "served_median_s": round(statistics.median(served_s), 4),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_interval_95": [round(low, 4), round(high, 4)],
        "goal": 1.05,
    }
