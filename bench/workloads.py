"""Workloads: seeded lists of arrivals. Times are in units of the mean gap; `at_rate` scales them.

The same seed gives the same requests at any rate, so that systems and rates are compared on one
sequence of requests.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

SIZES_PX = (512, 640, 768, 1024)
Value = TypeVar("Value")

#: A prompt is used so many times on average (W-session).
PROMPT_USES = 7.8


@dataclass(frozen=True, slots=True)
class RequestClass:
    """What a deadline depends on: requests of one class take equally long on an idle device."""

    step_count: int
    rows: int
    size_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request for one image. `prompt` tells prompts apart.

    `patience`: the caller hangs up after this many times the isolated latency; None means never.
    `tells_deadline`: whether the system is told by when it should be done.
    """

    index: int
    at_s: float
    step_count: int
    guidance_scale: float
    size_px: int
    scheduler: str
    prompt: int
    patience: float | None = None
    tells_deadline: bool = True

    @property
    def rows(self) -> int:
        """Denoiser rows: two with guidance."""
        return 2 if self.guidance_scale > 1 else 1

    @property
    def kind(self) -> RequestClass:
        """Its class."""
        return RequestClass(self.step_count, self.rows, self.size_px)


Times = Callable[[random.Random, int], list[float]]


def _poisson(rng: random.Random, count: int) -> list[float]:
    """Exponential gaps of mean 1."""
    return _gaps(lambda: rng.expovariate(1.0), count)


def _bursty(rng: random.Random, count: int) -> list[float]:
    """Gamma gaps of mean 1 whose standard deviation is three times the mean."""
    return _gaps(lambda: rng.gammavariate(1 / 9, 9.0), count)


def _gaps(gap: Callable[[], float], count: int) -> list[float]:
    times, now = [], 0.0
    for _ in range(count):
        now += gap()
        times.append(now)
    return times


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What requests are drawn from: values with their weights, and when they come."""

    name: str
    steps: tuple[tuple[int, float], ...] = ((4, 0.4), (20, 0.4), (50, 0.2))
    guidance: tuple[tuple[float, float], ...] = ((1.0, 0.25), (5.0, 0.45), (7.5, 0.30))
    schedulers: tuple[tuple[str, float], ...] = (
        ("EulerDiscreteScheduler", 0.60),
        ("DPMSolverMultistepScheduler", 0.25),
        ("EulerAncestralDiscreteScheduler", 0.15),
    )
    size_count: int = 1
    times: Times = _poisson
    prompts_repeat: bool = False
    cancelled_share: float = 0.0
    #: Of the requests, those that tell their deadline.
    told_share: float = 1.0
    #: Of the highest rate that is sustained; only for what is run beyond it.
    load: float = 1.0

    def arrivals(self, seed: int, count: int, *, size_px: int = SIZES_PX[0]) -> list[Arrival]:
        """So many arrivals at a mean rate of one a second, the first sizes from `size_px` on."""
        rng = random.Random(f"{self.name} {seed}")
        sizes = [size_px] if self.size_count == 1 else list(SIZES_PX[: self.size_count])
        prompts = _prompts(rng, count) if self.prompts_repeat else list(range(count))
        return [
            Arrival(
                index=index,
                at_s=at_s,
                step_count=_drawn(rng, self.steps),
                guidance_scale=_drawn(rng, self.guidance),
                scheduler=_drawn(rng, self.schedulers),
                size_px=rng.choice(sizes),
                prompt=prompts[index],
                patience=rng.random() if rng.random() < self.cancelled_share else None,
                # Without a draw where all do, so that their requests are those they were.
                tells_deadline=self.told_share == 1.0 or rng.random() < self.told_share,
            )
            for index, at_s in enumerate(self.times(rng, count))
        ]


def _drawn(rng: random.Random, weighted: Sequence[tuple[Value, float]]) -> Value:
    return rng.choices([value for value, _ in weighted], [weight for _, weight in weighted])[0]


def _prompts(rng: random.Random, count: int) -> list[int]:
    """Prompts of users whose activity is Zipf's: a user stays with a prompt for a while."""
    user_count = 20
    shares = [1 / rank for rank in range(1, user_count + 1)]
    current = list(range(user_count))
    prompts, unused = [], user_count
    for _ in range(count):
        user = rng.choices(range(user_count), shares)[0]
        if rng.random() < 1 / PROMPT_USES:
            current[user], unused = unused, unused + 1
        prompts.append(current[user])
    return prompts


def at_rate(arrivals: Sequence[Arrival], rate_per_s: float) -> list[Arrival]:
    """The same requests, coming at this mean rate."""
    return [dataclasses.replace(one, at_s=one.at_s / rate_per_s) for one in arrivals]


def at_once(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """The same requests, all there from the start."""
    return [dataclasses.replace(one, at_s=0.0) for one in arrivals]


W_MIX = Workload(name="W-mix")
W_SIZE = Workload(name="W-size", size_count=4)
W_HOMOG = Workload(
    name="W-homog",
    steps=((20, 1.0),),
    guidance=((5.0, 1.0),),
    schedulers=(("EulerDiscreteScheduler", 1.0),),
)
W_BURST = Workload(name="W-burst", times=_bursty)
W_SESSION = Workload(name="W-session", prompts_repeat=True)
W_CANCEL = Workload(name="W-cancel", cancelled_share=0.15)
W_OVER = Workload(name="W-over", load=1.5)
W_SOME = Workload(name="W-some", load=1.5, told_share=0.5)
WORKLOADS = (W_MIX, W_SIZE, W_HOMOG, W_BURST, W_SESSION, W_CANCEL, W_OVER, W_SOME)
