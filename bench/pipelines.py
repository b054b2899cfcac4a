"""The stock pipeline in this process: timed, and behind the baselines' queue with a real clock."""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

from bench.baselines import Policy, WholeRequests
from bench.virtual import Device, Idle, Trace
from bench.workloads import Arrival

PROMPT = "a red circle on a blue background"


class Pipeline:
    """`pipe(...)` with lists: what every baseline calls."""

    def __init__(self, pipe: StableDiffusionXLPipeline) -> None:
        self._pipe = pipe
        self._pipe.set_progress_bar_config(disable=True)
        self._config = pipe.scheduler.config

    @classmethod
    def of(cls, version: Path, *, thread_count: int) -> Pipeline:
        """Reads a version's folder in FP32; it stays on the processor."""
        torch.set_num_threads(thread_count)
        return cls(StableDiffusionXLPipeline.from_pretrained(version, torch_dtype=torch.float32))

    def run(self, batch: Sequence[Arrival]) -> list[np.ndarray[Any, Any]]:
        """Images of requests with equal parameters; a seed is a request's index."""
        first = batch[0]
        if type(self._pipe.scheduler).__name__ != first.scheduler:
            scheduler = getattr(diffusers, first.scheduler)
            self._pipe.scheduler = scheduler.from_config(self._config)
        made = self._pipe(
            [PROMPT] * len(batch),
            num_inference_steps=first.step_count,
            guidance_scale=first.guidance_scale,
            height=first.size_px,
            width=first.size_px,
            generator=[torch.Generator("cpu").manual_seed(one.index) for one in batch],
        )
        return [np.asarray(image) for image in made.images]

    def timed_s(self, batch: Sequence[Arrival]) -> float:
        """Seconds that a call takes."""
        started_s = time.perf_counter()
        self.run(batch)
        return time.perf_counter() - started_s

    def calibrated(self, size_px: int, *, rounds: int = 3) -> Device:
        """A virtual device with this pipeline's step costs, for tuning and for deadlines.

        A step is the difference between calls of 12 and of 4 steps, the median of some rounds.
        """
        steps_s, rest_s = {}, {}
        for rows in (1, 2, 4, 8, 16):
            calls = {n: [_request(i, n, size_px) for i in range(rows)] for n in (4, 12)}
            self.timed_s(calls[4])
            pairs = [(self.timed_s(calls[4]), self.timed_s(calls[12])) for _ in range(rounds)]
            short_s = statistics.median(short for short, _ in pairs)
            steps_s[rows] = max(1e-4, statistics.median(b - a for a, b in pairs) / 8)
            rest_s[rows] = max(0.0, short_s - 4 * steps_s[rows])
        return Device(
            name="this machine",
            row_s=steps_s[1],
            decode_unit_s=rest_s[1],
            gains=tuple((rows, rows * steps_s[1] / step_s) for rows, step_s in steps_s.items()),
            size_px=size_px,
        )


def play_pipeline(
    pipeline: Pipeline,
    policy: Policy,
    device: Device,
    arrivals: Sequence[Arrival],
    deadlines_s: Sequence[float | None],
) -> Trace:
    """Plays arrivals in real time through a baseline's queue; times are from the start."""
    system, trace = WholeRequests(policy, device), Trace()
    coming = [(one.at_s, one.index, one) for one in arrivals]
    heapq.heapify(coming)
    started_s = time.perf_counter()
    while True:
        now_s = time.perf_counter() - started_s
        while coming and coming[0][0] <= now_s:
            one = heapq.heappop(coming)[2]
            system.arrive(one, deadlines_s[one.index])
        match system.take(now_s):
            case Idle(until_s):
                upcoming = [coming[0][0]] if coming else []
                upcoming += [until_s] if until_s is not None else []
                if not upcoming:
                    trace.end_s = now_s
                    return trace
                # Nothing to do until then: the load is played at its own pace.
                time.sleep(max(0.0, min(upcoming) - now_s))
            case batch:
                trace.busy_s += pipeline.timed_s(batch)
                ended_s = time.perf_counter() - started_s
                trace.finished_s |= {one.index: ended_s for one in batch}


def _request(index: int, step_count: int, size_px: int) -> Arrival:
    return Arrival(
        index=index,
        at_s=0.0,
        step_count=step_count,
        guidance_scale=1.0,
        size_px=size_px,
        scheduler="EulerDiscreteScheduler",
        prompt=0,
    )
