"""`make bench-gpu`: tier G, full-size SDXL and FLUX.1 schnell with random weights on one GPU.

In bfloat16. Parts are measured one by one, and kept as they come: `costs` of steps and decodings,
eager; `compiled`, the same by torch.compile; `serving`, the real server against the stock pipeline.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from bench import full_size, served
from bench.load import play_server
from bench.measured import Estimate, Measured
from bench.overhead import idle_latency
from bench.pipelines import Pipeline
from bench.results_table import commit_now, figure, keep, show
from bench.serving import Server
from bench.setup import Bench, Plays, Targets
from bench.workloads import W_HOMOG, at_once
from darkroom_server.backends.diffusers.families.flux import FluxStepModel
from darkroom_server.backends.diffusers.families.sdxl import SdxlStepModel
from darkroom_server.backends.diffusers.networks.compiled import CompiledNetwork
from darkroom_server.backends.diffusers.step_model import AnyFamilyModel
from darkroom_server.backends.prompt_cache import PromptCache
from darkroom_server.domain.jobs import ImageSpec, Task

DTYPE = torch.bfloat16
SIZES_PX, UNSATURATED_PX, SATURATED_PX = (512, 768, 1024), 512, 1024
ROWS = (1, 2, 4, 8, 16)
#: What a fault leaves free of the GPU's memory, besides what the worker has.
LITTLE_BYTES = 512 << 20
#: Each step is taken this often after one that warms up; the median counts.
REPEATS = 4

TARGETS = Targets(
    goodput=2.0,
    tail=0.15,
    idle_latency=1.02,
    throughput=0.97,
    first_preview=0.08,
    preview_cost=0.01,
    cancel_steps=1.0,
    memory=1.05,
    exact_goodput=0.95,
)
PLAYS = Plays(
    seeds=(1,),
    request_count=100,
    waiting_counts=(16, 8),
    pair_count=6,
    round_count=2,
    equality_count=6,
    hang_up_count=12,
    preview_intervals=(),
)
CONFIG = """\
name: "sdxl"
max_batch_size: 16
defaults { width_px: 1024 height_px: 1024 step_count: 20 guidance_scale: 5 }
schedulers: [
  "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"
]
"""


def device() -> torch.device:
    """The GPU."""
    return torch.device("cuda")


def sdxl() -> AnyFamilyModel:
    """Full-size SDXL as a step model."""
    return SdxlStepModel(
        full_size.sdxl(device(), DTYPE),
        allowed_schedulers=("EulerDiscreteScheduler",),
        prompts=PromptCache(max_bytes=1 << 24),
    )


def flux() -> AnyFamilyModel:
    """Full-size FLUX.1 schnell as a step model."""
    return FluxStepModel(
        full_size.flux_schnell(device(), DTYPE),
        allowed_schedulers=("FlowMatchEulerDiscreteScheduler",),
        prompts=PromptCache(max_bytes=1 << 24),
    )


def costs() -> Iterator[Measured]:
    """Steps by rows and decodings of both models: what tier V takes for a GPU (`--devices`)."""
    for name, build, scheduler, rows in (
        ("SDXL", sdxl, "EulerDiscreteScheduler", ROWS),
        ("FLUX.1 schnell", flux, "FlowMatchEulerDiscreteScheduler", ROWS[:-1]),
    ):
        model = build()
        for size_px in SIZES_PX:
            spec = _spec(size_px, scheduler)
            yield _steps(f"{name}, {size_px} px, eager", model, spec, rows)
        if name == "SDXL":
            model.module.to(memory_format=torch.channels_last)
            for size_px in (UNSATURATED_PX, SATURATED_PX):
                spec = _spec(size_px, scheduler)
                yield _steps(f"{name}, {size_px} px, eager, channels last", model, spec)
        del model
        torch.cuda.empty_cache()


def compiled() -> Iterator[Measured]:
    """Steps by torch.compile: FLUX by its blocks, SDXL as a whole, as the service compiles them."""
    for name, build, scheduler, regional in (
        ("FLUX.1 schnell", flux, "FlowMatchEulerDiscreteScheduler", True),
        ("SDXL", sdxl, "EulerDiscreteScheduler", False),
    ):
        model = build()
        model.network = CompiledNetwork(model.module, model.constants, regional=regional)
        for size_px in (SATURATED_PX, UNSATURATED_PX):
            started_s = time.monotonic()
            # From two rows on a graph leaves their number open: one row would take one more.
            found = _steps(
                f"{name}, {size_px} px, compiled", model, _spec(size_px, scheduler), ROWS[1:]
            )
            found.details["with_compiling_s"] = round(time.monotonic() - started_s, 1)
            yield found
        del model
        torch.cuda.empty_cache()


def serving() -> Iterator[Measured]:
    """G4, G10, G7, a fault, G3 and G1 on the real server."""
    pipe = full_size.sdxl(device(), DTYPE)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "sdxl"
        pipe.save_pretrained(model / "1")
        (model / "config.pbtxt").write_text(CONFIG)
        bench = Bench(
            tier="G",
            targets=TARGETS,
            plays=PLAYS,
            model=model,
            pipeline=Pipeline(pipe),
            unsaturated_px=UNSATURATED_PX,
            saturated_px=SATURATED_PX,
            thread_count=torch.get_num_threads(),
        )
        with bench.server("TOLERANCE") as (server, client):
            yield served.bit_equality(bench, server)
            yield served.cancel(bench, server)
            yield idle_latency(bench, client, UNSATURATED_PX)
            yield served.best_batch(bench, server, UNSATURATED_PX)
            yield idle_latency(bench, client, SATURATED_PX)
            yield _with_little_memory(server)
            yield served.best_batch(bench, server, SATURATED_PX)
            yield from served.under_load(bench, server)


def _with_little_memory(server: Server) -> Measured:
    """Requests made at once of eight large ones, while this process leaves the GPU little room."""
    waiting = at_once(W_HOMOG.arrivals(1, 8, size_px=SATURATED_PX))
    torch.cuda.empty_cache()
    free_bytes, _ = torch.cuda.mem_get_info()
    taken = torch.empty(max(0, free_bytes - LITTLE_BYTES), dtype=torch.uint8, device=device())
    trace = play_server(server.address, waiting, [None] * len(waiting))
    del taken
    lowered = [one for one in server.log if one.get("event") == "out of memory"]
    share = len(trace.finished_s) / len(waiting)
    return Measured(
        goal="faults",
        tier="G",
        metric=f"of 8 requests at {SATURATED_PX} px, made with {LITTLE_BYTES >> 20} MiB free",
        target=1.0,
        at_least=True,
        estimate=Estimate(share, share, share, 1),
        details={"out_of_memory": lowered},
    )


PARTS: dict[str, Callable[[], Iterator[Measured]]] = {
    "costs": costs,
    "compiled": compiled,
    "serving": serving,
}


def _steps(
    name: str, model: AnyFamilyModel, spec: ImageSpec, rows: tuple[int, ...] = ROWS
) -> Measured:
    """Milliseconds of a step by rows, of the VAE, and of a whole decoding to pixels in memory.

    The figure is what more rows gain.
    """
    one = model.begin(spec, model.encode(spec), 0)

    @torch.inference_mode()
    def vae() -> None:
        model.to_image(model.unpacked(one.latents, spec))

    step_ms = {
        count: _median_ms(lambda count=count: model.denoise(model.gather([one] * count)), model)
        for count in rows
    }
    details = {
        "size_px": spec.width_px,
        "step_ms": step_ms,
        "vae_ms": _median_ms(vae, model),
        "decode_ms": _median_ms(lambda: model.decode(one), model),
        "device": model.device_name(),
    }
    few, many = rows[0], min(rows[-1], 8)
    gain = many * step_ms[few] / (few * step_ms[many])
    metric = f"{name}: rows a second of {many} / of {few}"
    return _told(metric, gain, details)


def _median_ms(work: Callable[[], Any], model: AnyFamilyModel) -> float:
    durations_ms = []
    for _ in range(1 + REPEATS):
        started_s = time.perf_counter()
        work()
        model.wait()
        durations_ms.append((time.perf_counter() - started_s) * 1e3)
    return round(statistics.median(durations_ms[1:]), 3)


def _told(metric: str, value: float, details: dict[str, Any]) -> Measured:
    return Measured(
        goal="costs",
        tier="G",
        metric=metric,
        target=None,
        at_least=True,
        estimate=Estimate(value, value, value, 1),
        details=details,
    )


def _spec(size_px: int, scheduler: str) -> ImageSpec:
    return ImageSpec(
        task=Task.TEXT_TO_IMAGE,
        prompt="a red circle on a blue background",
        negative_prompt=None,
        width_px=size_px,
        height_px=size_px,
        step_count=20,
        guidance_scale=1.0,
        scheduler=scheduler,
        seeds=(0,),
    )


def main() -> None:
    """Measures the parts asked for; what was measured is on disk after each figure."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no GPU here; `make bench` measures the processor")
    commit = commit_now()
    sys.stdout.reconfigure(line_buffering=True)
    for part in args.parts or PARTS:
        measured: list[Measured] = []
        started_s = time.monotonic()
        for one in PARTS[part]():
            measured.append(one)
            elapsed_s = time.monotonic() - started_s
            print(
                f"[{elapsed_s:.0f} s] {one.goal} {one.metric}: {figure(one)}",
                one.details,
                flush=True,
            )
            path = keep(measured, tiers=f"g-{part}", quick=False, commit=commit)
        show(measured)
        print(f"-> {path}")


if __name__ == "__main__":
    main()
