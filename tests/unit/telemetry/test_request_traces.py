from __future__ import annotations

from darkroom_server.telemetry.request_traces import RequestTraces


def traced(traces: RequestTraces, model: str, count: int = 6) -> list[bool]:
    return [traces.wants(model) for _ in range(count)]


def test_nothing_is_traced_until_it_is_told_to() -> None:
    assert not any(traced(RequestTraces(), "m"))


def test_one_in_so_many_is_until_there_were_enough() -> None:
    traces = RequestTraces()
    traces.change("", {"is_on": True, "rate": 2, "count": 2})
    assert traced(traces, "m") == [True, False, True, False, False, False]
    traces.change("", {"rate": 1})
    assert traced(traces, "m", 3) == [True, True, False]


def test_a_model_s_own_settings_go_before_and_are_counted_apart() -> None:
    traces = RequestTraces()
    traces.change("", {"is_on": True, "rate": 1})
    traces.change("m", {"is_on": False})
    assert not any(traced(traces, "m"))
    assert all(traced(traces, "other"))
    traces.change("m", {"is_on": None})
    assert all(traced(traces, "m"))
    assert traces.settings("m") == traces.settings()
