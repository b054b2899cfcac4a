"""The first-block cache: alone as diffusers' own, and decided for each row by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, FluxTransformer2DModel

from darkroom_server.backends.diffusers.first_block import FirstBlockCache, FirstBlockMemory
from darkroom_server.domain.jobs import FeatureCache, ImageSpec, Reproducibility
from darkroom_server.worker.messages import CancelJob, Report, SubmitJob
from darkroom_server.worker.step_runner import step_loop
from tests.parity.shared import assert_within_tolerance, served, stepped
from tests.parity.test_flux import build, flux_spec, stock
from tests.parity.tiny_flux import random_flux, random_flux_fill
from tests.unit.specs import job

NAMES = ["dev", "fill"]
#: Of the tiny models' steps some compute at these, and some do not.
THRESHOLDS = (0.3, 0.45)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tokenizer")
    made = {"dev": random_flux(folder, guided=True), "fill": random_flux_fill(folder)}
    for pipeline in made.values():
        config = dict(pipeline.transformer.config)
        torch.manual_seed(1)
        deeper = FluxTransformer2DModel.from_config(
            config | {"num_layers": 2, "num_single_layers": 2}
        )
        pipeline.register_modules(transformer=deeper.eval())
    return made


def cached_spec(name: str, *, threshold: float = THRESHOLDS[0], **changes: Any) -> ImageSpec:
    values = {"step_count": 12, "feature_cache": FeatureCache(threshold=threshold)}
    return flux_spec(name, **(values | changes))


def made_by_stock(pipeline: Any, spec: ImageSpec, threshold: float) -> np.ndarray:
    transformer = pipeline.transformer
    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    try:
        # Fill's pipeline names no context, which the cache needs.
        with transformer.cache_context("cond"):
            return stock(pipeline, spec)
    finally:
        transformer.disable_cache()


def computed_counts(pipeline: Any, specs: list[ImageSpec]) -> list[int]:
    """How often the last block ran for each request, run by itself."""
    counts = []
    for spec in specs:
        runs: list[int] = []
        last = pipeline.transformer.single_transformer_blocks[-1]
        handle = last.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        stepped(build(pipeline), spec)
        handle.remove()
        counts.append(len(runs))
    return counts


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_alone_it_equals_the_stock_pipeline_with_diffusers_cache(
    pipelines: dict[str, Any], name: str, threshold: float
) -> None:
    pipeline, spec = pipelines[name], cached_spec(name, threshold=threshold)
    (computed,) = computed_counts(pipeline, [spec])
    assert 1 <= computed < spec.step_count
    wanted = made_by_stock(pipeline, spec, threshold)
    np.testing.assert_array_equal(stepped(build(pipeline), spec), wanted)
    assert (stock(pipeline, spec) != wanted).any()


@pytest.mark.parametrize("name", NAMES)
def test_nobody_who_did_not_ask_gets_it(pipelines: dict[str, Any], name: str) -> None:
    """Neighbours with a cache change no byte of a request without."""
    pipeline = pipelines[name]
    plain = flux_spec(name, step_count=6, reproducibility=Reproducibility.TOLERANCE)
    cached = cached_spec(name, reproducibility=Reproducibility.TOLERANCE)
    model = build(pipeline)
    assert model.batch_key(plain) != model.batch_key(cached)
    (alone,) = served(build(pipeline), [plain], ticks_between=[0])
    made = served(model, [cached, plain, cached], ticks_between=[2, 0, 1])
    np.testing.assert_array_equal(made[1], alone)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_one_step_decide_for_themselves(pipelines: dict[str, Any], name: str) -> None:
    pipeline = pipelines[name]
    specs = [
        cached_spec(
            name, threshold=threshold, seeds=(seed,), reproducibility=Reproducibility.TOLERANCE
        )
        for seed, threshold in enumerate((0.3, 0.45, 0.3, 0.9))
    ]
    assert len(set(computed_counts(pipeline, specs))) > 1
    made = served(build(pipeline), specs, ticks_between=[1, 0, 2, 0])
    for one, spec in zip(made, specs, strict=True):
        assert_within_tolerance(one, stepped(build(pipeline), spec))


def test_alone_steps_of_others_between_change_no_byte(pipelines: dict[str, Any]) -> None:
    pipeline = pipelines["dev"]
    specs = [cached_spec("dev", seeds=(seed,)) for seed in range(3)]
    made = served(build(pipeline), specs, ticks_between=[3, 2, 1])
    for one, spec in zip(made, specs, strict=True):
        np.testing.assert_array_equal(one, stepped(build(pipeline), spec))


def test_a_cancelled_request_leaves_nothing_to_the_next(pipelines: dict[str, Any]) -> None:
    pipeline, reports = pipelines["dev"], list[Report]()
    model = build(pipeline)
    loop = step_loop(model, reports.append, max_batch_size=8)
    loop.post(SubmitJob(job("a", **_fields(cached_spec("dev", seeds=(5,))))))
    for _ in range(4):
        loop.tick()
    loop.post(CancelJob("a"))
    loop.run_to_end()
    spec = cached_spec("dev")
    np.testing.assert_array_equal(stepped(model, spec), stepped(build(pipeline), spec))
    assert model._first_block._run.memories == ()


def test_a_step_that_fails_is_forgotten(pipelines: dict[str, Any]) -> None:
    pipeline = pipelines["dev"]
    model, spec = build(pipeline), cached_spec("dev", threshold=1e-9)
    one = model.begin(spec, model.encode(spec), 0)
    model.scatter(one, model.denoise(model.gather([one])), 0)
    assert one.memory is not None
    before = one.memory.added

    def fail(*_: Any) -> None:
        raise MemoryError

    inputs = model.gather([one])
    handle = pipeline.transformer.proj_out.register_forward_hook(fail)
    with pytest.raises(MemoryError):
        model.denoise(inputs)
    handle.remove()
    assert one.memory.added is before
    model.denoise(inputs)
    assert one.memory.added is not before


def test_the_view_shares_every_weight(pipelines: dict[str, Any]) -> None:
    transformer = pipelines["dev"].transformer
    cache = FirstBlockCache(transformer)
    own = {id(tensor) for tensor in transformer.parameters()}
    assert {id(tensor) for tensor in cache._view.parameters()} == own
    assert FirstBlockMemory(0.1).added is None


def _fields(spec: ImageSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__dataclass_fields__}
