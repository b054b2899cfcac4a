"""What was counted of requests, in Triton's messages and under Triton's metrics' names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from darkroom.kserve.v2 import inference_pb2 as pb
from darkroom_server.domain.model_status import ModelStatus
from darkroom_server.engine.engine import Engine
from darkroom_server.telemetry.inference_statistics import Spent, VersionStatistics
from darkroom_server.wire.kserve.metadata import chosen_version

#: Name, and what it counts. Triton's counters have no suffix, which Prometheus' own would get.
_COUNTS: Final = (
    ("nv_inference_request_success", "requests that were a success"),
    ("nv_inference_request_failure", "requests that were none, by the reason"),
    ("nv_inference_count", "images made"),
    ("nv_inference_exec_count", "images made, those of one batch as one"),
    ("nv_inference_request_duration_us", "time of successful requests, microseconds"),
    ("nv_inference_queue_duration_us", "of it, until the work began"),
    ("nv_inference_compute_input_duration_us", "of it, until texts and pictures were encoded"),
    ("nv_inference_compute_infer_duration_us", "of it, for denoising"),
    ("nv_inference_compute_output_duration_us", "of it, until images were decoded and compressed"),
)
_PENDING: Final = "nv_inference_pending_request_count"


def model_statistics(engine: Engine, name: str, version: str) -> pb.ModelStatisticsResponse:
    """Of a version, of all versions of a model, or of all; raises ModelNotFound."""
    statuses = [engine.get_model(name)] if name else list(engine.list_models())
    if name and version:
        chosen = chosen_version(statuses[0], version)
        numbers = [chosen.version] if chosen else []
        return _response(engine, [(statuses[0], numbers)])
    return _response(
        engine, [(one, sorted(version.version for version in one.versions)) for one in statuses]
    )


def _response(
    engine: Engine, wanted: list[tuple[ModelStatus, list[int]]]
) -> pb.ModelStatisticsResponse:
    return pb.ModelStatisticsResponse(
        model_stats=[
            _message(status.model.name, number, engine.statistics.of(status.model.name, number))
            for status, numbers in wanted
            for number in numbers
        ]
    )


def _message(name: str, version: int, own: VersionStatistics) -> pb.ModelStatistics:
    return pb.ModelStatistics(
        name=name,
        version=str(version),
        last_inference=round(own.last_began_s * 1000),
        inference_count=own.image_count,
        execution_count=own.execution_count,
        inference_stats=pb.InferStatistics(
            success=_spent(own.success),
            fail=_spent(own.failed),
            queue=_spent(own.queue),
            compute_input=_spent(own.encode),
            compute_infer=_spent(own.denoise),
            compute_output=_spent(own.decode),
            cache_hit=pb.StatisticDuration(),
            cache_miss=pb.StatisticDuration(),
        ),
    )


def _spent(spent: Spent) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=spent.count, ns=round(spent.total_s * 1e9))


class TritonMetrics(Collector):
    """A collector of the registry: Triton's names, for dashboards that have them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterator[Metric]:
        """Nothing that could be in the way of other metrics."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The counts of now."""
        families = {name: Metric(name, text, "untyped") for name, text in _COUNTS}
        for (model, version), own in self._engine.statistics.all().items():
            labels = {"model": model, "version": str(version)}
            for name, value in _values(own):
                families[name].add_sample(name, labels, value)
            for reason, spent in own.failures.items():
                name = "nv_inference_request_failure"
                families[name].add_sample(name, labels | {"reason": reason}, spent.count)
        yield from families.values()
        pending = Metric(_PENDING, "requests that wait", "gauge")
        for status in self._engine.list_models():
            shown = status.shown_version
            if shown is not None:
                labels = {"model": status.model.name, "version": str(shown.version)}
                pending.add_sample(_PENDING, labels, status.queued_request_count)
        yield pending


def _values(own: VersionStatistics) -> Iterator[tuple[str, float]]:
    yield "nv_inference_request_success", own.success.count
    yield "nv_inference_count", own.image_count
    yield "nv_inference_exec_count", own.execution_count
    yield "nv_inference_request_duration_us", _us(own.success)
    yield "nv_inference_queue_duration_us", _us(own.queue)
    yield "nv_inference_compute_input_duration_us", _us(own.encode)
    yield "nv_inference_compute_infer_duration_us", _us(own.denoise)
    yield "nv_inference_compute_output_duration_us", _us(own.decode)


def _us(spent: Spent) -> int:
    return round(spent.total_s * 1e6)
